"""Partials of classes, methods of objects and modules, and records are built before they are called."""

from __future__ import annotations

import pytest

from tests.support.confirming import confirm_source, target_of
from theria.verdicts import Verdict
from theria_lint.confirm.confirm import Confirmation

SOURCE = """import functools

import torch
from torch import nn


class Mixer(nn.Module):
    def __init__(self, dim=16, cut=False, scale=1.0):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.cut, self.scale = cut, scale

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(-2, -1) * self.scale
        return (scores.detach() if self.cut else scores).softmax(-1) @ v


class Stepping(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v

    def forward_parallel(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v

    def step(self, x, memory):
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.transpose(-2, -1)).softmax(-1).detach() @ v

    def attend_chunk(self, q, k, v):
        return (q @ k.transpose(-2, -1)).softmax(-1).detach() @ v


class Backend:
    def __init__(self, scale):
        self.scale = scale

    def attend(self, q, k, v):
        return (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v

    def attend_once(self, q, k, v):
        return (q.detach() @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v

    class Inner:
        def attend(self, q, k, v):
            return (q @ k.transpose(-2, -1)).softmax(-1).detach() @ v


PlainAttention = functools.partial(Mixer, 16, scale=0.5)
CutAttention = functools.partial(functools.partial(Mixer, cut=True), 16)
made = Mixer(7)
made_to_cut = Mixer(12, cut=True)
multihead = nn.MultiheadAttention(14, 2)


def build(scale, cut=False):
    def run(q, k, v):
        scores = q @ k.transpose(-2, -1) * scale
        return (scores.detach() if cut else scores).softmax(-1) @ v

    return run


def build_cut(heads):
    if heads:
        return lambda q, k, v: (q.detach() @ k.transpose(-2, -1)).softmax(-1) @ v
    return None
"""


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("opened"), SOURCE, timeout=120)


@pytest.mark.parametrize(
    ("symbol", "verdict"),
    [
        ("PlainAttention", Verdict.SAFE),
        ("CutAttention", Verdict.SILENT_COLLAPSE),
        ("made", Verdict.SAFE),
        ("made_to_cut", Verdict.SILENT_COLLAPSE),
        ("multihead", Verdict.SAFE),
        ("build.run", Verdict.SAFE),
        ("build_cut", Verdict.HARD_STRUCTURAL),
        ("Stepping", Verdict.SAFE),
        ("Stepping.forward_parallel", Verdict.SAFE),
        ("Stepping.step", Verdict.SILENT_COLLAPSE),
        ("Stepping.attend_chunk", Verdict.HARD_STRUCTURAL),
        ("Backend.attend", Verdict.SAFE),
        ("Backend.attend_once", Verdict.HARD_STRUCTURAL),
        ("Backend.Inner.attend", Verdict.HARD_STRUCTURAL),
    ],
)
def test_it_is_measured_as_what_it_makes(confirmed: Confirmation, symbol: str, verdict: Verdict) -> None:
    assert target_of(confirmed, symbol).verdict is verdict


def test_what_a_partial_gives_is_not_turned(confirmed: Confirmation) -> None:
    turned = [t.configuration for t in confirmed.targets if t.target.symbol == "CutAttention" and t.configuration]
    assert turned == []


def test_the_cut_is_confirmed_where_it_stands(confirmed: Confirmation) -> None:
    lines = {
        f.suspect.span.line
        for f in confirmed.findings
        if f.disposition.value == "confirmed" and f.suspect.rule == "THL002"
    }
    wanted = {n for n, line in enumerate(SOURCE.splitlines(), 1) if "detach()" in line}
    assert lines == wanted


RECORDS = """from dataclasses import dataclass
from typing import NamedTuple, Optional

import torch
from torch import Tensor


class Inputs(NamedTuple):
    q: Tensor
    k: Tensor
    v: Tensor
    bias: Optional[Tensor] = None


@dataclass
class Arguments:
    query: Tensor
    key: Tensor
    value: Tensor
    past_key: Optional[Tensor] = None
    past_value: Optional[Tensor] = None


def attend_biased(inputs: Inputs, *, scale=1.0):
    scores = inputs.q @ inputs.k.mT * scale
    if inputs.bias is not None:
        scores = scores.detach() + inputs.bias
    return scores.softmax(-1) @ inputs.v


def attend_cached(args: Arguments):
    key, value = args.key, args.value
    if args.past_key is not None:
        key, value = torch.cat([args.past_key, key], -2).detach(), torch.cat([args.past_value, value], -2)
    return (args.query @ key.mT).softmax(-1) @ value


def attend_rightly(args: Arguments):
    key, value = args.key, args.value
    if args.past_key is not None:
        key, value = torch.cat([args.past_key.detach(), key], -2), torch.cat([args.past_value, value], -2)
    return (args.query @ key.mT).softmax(-1) @ value
"""


def test_a_function_of_a_record_is_one_of_its_fields(tmp_path_factory: pytest.TempPathFactory) -> None:
    found = confirm_source(tmp_path_factory.mktemp("records"), RECORDS, device="cpu")
    told = {f.suspect.symbol: f.disposition for f in found.findings}
    assert told == {"attend_biased": "confirmed", "attend_cached": "confirmed", "attend_rightly": "cleared"}
    assert target_of(found, "attend_rightly").verdict is Verdict.SAFE
