"""A target that could not be judged with its defaults is not safe because it is safe when it is called otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.confirming import confirm_source, target_of
from theria.probes.layouts import ODD
from theria.probes.report import Report
from theria.verdicts import Status, Verdict
from theria_lint.confirm.evidence import get_worst_verdict
from theria_lint.confirm.protocol import Outcome
from theria_lint.model import Configuration, Run
from theria_lint.reasons import Ground, Reason, ReasonCode
from theria_lint.report.sentences import say
from theria_lint.worker.base_attention import make_base_attention
from theria_lint.worker.find_call.call_strategy import TrialSpec
from theria_lint.worker.safe_coverage import list_safe_elsewhere, settles

NOISY_IN_TRAINING = """import os

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        if self.training:
            q = q + int.from_bytes(os.urandom(2), "big") / 65536
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v
"""
SWITCHED_OFF = """import torch


def attention(q, k, v, mixed=False):
    weights = (q @ k.transpose(-2, -1)).softmax(-1)
    return weights @ v if mixed else (q - q) + (k - k).sum() + (v - v).sum()
"""
BUCKETS = """import torch


def causal_linear_attention(q, k, v, size=None):
    size = 64 if size is None else size
    assert q.shape[-2] % size == 0
    split = lambda t: t.reshape(*t.shape[:-2], -1, size, t.shape[-1])
    q, k, v = split(q.softmax(-1)), split(k.exp()), split(v)
    memory = (k.transpose(-2, -1) @ v).cumsum(-3)
    memory = torch.cat([torch.zeros_like(memory[..., :1, :, :]), memory[..., :-1, :, :]], -3)
    return (q @ memory).flatten(-3, -2)
"""


@pytest.mark.parametrize(
    ("source", "symbol", "code", "elsewhere"),
    [
        pytest.param(NOISY_IN_TRAINING, "Attention", Ground.FORWARD_NOT_REPEATABLE, "evaluation mode", id="evaluation"),
        pytest.param(SWITCHED_OFF, "attention", Ground.NO_DEPENDENCE, "mixed=True", id="flag"),
    ],
)
def test_a_default_that_is_not_judged_is_inconclusive(
    tmp_path: Path, source: str, symbol: str, code: str, elsewhere: str
) -> None:
    target = target_of(confirm_source(tmp_path, source), symbol)
    assert target.verdict is Verdict.INCONCLUSIVE
    assert target.reason.code == ReasonCode.SAFE_OTHERWISE
    assert target.reason.data["reason"].code == code
    assert f"safe with {elsewhere}" in say(target.reason)


def test_sizes_are_taken_at_which_the_output_depends_on_the_inputs(tmp_path: Path) -> None:
    assert target_of(confirm_source(tmp_path, BUCKETS), "causal_linear_attention").verdict is Verdict.SAFE


SPEC = TrialSpec(ODD, "bhtd", torch.float64, "cpu", make_base_attention("reference"))
ELSEWHERE = {
    Configuration.SMALLER_DEFAULTS: replace(SPEC, small=True),
    Configuration.EVALUATION_MODE: replace(SPEC, evaluating=True),
    Configuration.CAUSAL_MASK: replace(SPEC, masking=True),
    Configuration.OPTIONAL_ARGUMENTS: replace(SPEC, choice={"mask": 1}),
    Configuration.PACKED_SEQUENCES: replace(SPEC, layout="thd"),
    Configuration.SECOND_CALL: replace(SPEC, called=True),
    Configuration.LONGER_SEQUENCE: replace(SPEC, shape=replace(ODD, queries=129, keys=129)),
}
AS_IT_IS = {
    Configuration.STRIDED_INPUTS: replace(SPEC, strided=True),
    Configuration.ODD_SIZES: replace(SPEC, shape=replace(ODD, queries=9)),
    Configuration.ALL_OUTPUTS: replace(SPEC, whole=True),
    Configuration.POINT: replace(SPEC, seed=3),
}


def report(configuration: str, verdict: Verdict) -> Report:
    return Report(Status.OK, verdict, Reason(Ground.ALL_AGREE, {}), configuration=configuration)


@pytest.mark.parametrize("other", [*ELSEWHERE, *AS_IT_IS])
def test_what_is_safe_elsewhere(other: Configuration) -> None:
    specs = {Configuration.FIRST_SIZES: SPEC, **ELSEWHERE, **AS_IT_IS}
    reports = [report(Configuration.FIRST_SIZES, Verdict.INCONCLUSIVE), report(other, Verdict.SAFE)]
    assert list_safe_elsewhere(reports, specs, SPEC) == ([other] if other in ELSEWHERE else [])
    assert list_safe_elsewhere([*reports, report("unsafe", Verdict.FIRST_ORDER_ONLY)], specs, SPEC) == []


def test_what_is_measured_in_a_hurry_alone_is_not_safe() -> None:
    other = Configuration.ODD_SIZES
    specs = {Configuration.FIRST_SIZES: SPEC, other: AS_IT_IS[other]}
    reports = [report(Configuration.FIRST_SIZES, Verdict.INCONCLUSIVE), report(other, Verdict.SAFE)]
    assert list_safe_elsewhere(reports, specs, SPEC, [other]) == [other]


def run(backend: str, verdict: Verdict) -> Run:
    return Run(backend, "cpu", "float64", "", "OK", verdict)


def test_what_is_put_under_a_target_does_not_make_it_safe() -> None:
    unjudged, reference = run("self", Verdict.INCONCLUSIVE), run("reference", Verdict.SAFE)
    assert get_worst_verdict(Outcome(0, "f", (unjudged, reference))) is Verdict.INCONCLUSIVE
    assert get_worst_verdict(Outcome(0, "f", (run("triton", Verdict.INCONCLUSIVE), reference))) is Verdict.SAFE
    assert not settles([unjudged, reference])
    assert settles([unjudged, run("reference", Verdict.FIRST_ORDER_ONLY)])
    assert settles([run("triton", Verdict.INCONCLUSIVE), reference])
