"""What a safe verdict promises: the caller's way of calling, every input and output, the precisions that train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.confirming import confirm_source, target_of
from theria.probes.layouts import ODD
from theria_lint.reasons import ReasonCode
from theria_lint.report.sentences import say
from theria_lint.worker.base_attention import SdpaCounter, make_base_attention
from theria_lint.worker.configurations.list_configurations import find_fused_kernel_call
from theria_lint.worker.find_call.call_strategy import BoundCall, CallStrategy, TrialSpec
from theria_lint.worker.find_call.run_trial import WorkingCall

MODULE = """import functools

import torch
from torch import nn

{before}

class Attention(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        {init}

    {decorator}
    def forward(self, x{parameters}):
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(-2, -1)
        {scores}
        return scores.softmax(-1) @ v
"""
WRAPPER = """def only_in_training(forward):
    @functools.wraps(forward)
    def wrapped(self, *args):
        with torch.set_grad_enabled(self.training):
            return forward(self, *args)

    return wrapped
"""
HOOK = "self.register_full_backward_hook(lambda module, given, received: tuple(g.detach() for g in given))"
PRE_HOOK = "self.register_forward_pre_hook(lambda module, args: tuple(a.detach() for a in args))"
ADDED = "scores = scores if {name} is None else scores + {name}{cut}"


def module(*, before: str = "", init: str = "", decorator: str = "", parameters: str = "", scores: str = "pass") -> str:
    return MODULE.format(before=before, init=init, decorator=decorator, parameters=parameters, scores=scores)


@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        (module(), "safe"),
        (module(init=HOOK), "silent_collapse"),
        (module(init=PRE_HOOK), "hard_structural"),
        (module(before=WRAPPER, decorator="@only_in_training"), "hard_structural"),
    ],
    ids=["plain", "hook", "pre-hook", "wrapper of *args"],
)
def test_modules_are_called_as_people_call_them(tmp_path: Path, source: str, verdict: str) -> None:
    result = target_of(confirm_source(tmp_path, source, device="cpu"), "Attention")
    assert result.verdict == verdict, result.reason


@pytest.mark.parametrize(
    "parameter",
    [
        *("bias", "attn_bias", "rel_pos_bias", "alibi"),
        *("bias=None", "attn_bias=None", "rel_pos_bias=None", "alibi=None", "attn_mask=None"),
    ],
)
@pytest.mark.parametrize(("cut", "verdict"), [(".detach()", "hard_structural"), ("", "safe")])
def test_what_is_added_to_the_scores_of_a_module_may_be_learned(
    tmp_path: Path, parameter: str, cut: str, verdict: str
) -> None:
    source = module(parameters=f", {parameter}", scores=ADDED.format(name=parameter.partition("=")[0], cut=cut))
    result = target_of(confirm_source(tmp_path, source, device="cpu"), "Attention")
    assert result.verdict == verdict, result.reason


@pytest.mark.parametrize("name", ["pair", "bias", "attn_bias=None"])
@pytest.mark.parametrize(("cut", "verdict"), [(".detach()", "hard_structural"), ("", "safe")])
def test_what_is_added_to_the_scores_of_a_function_may_be_learned(
    tmp_path: Path, name: str, cut: str, verdict: str
) -> None:
    added = ADDED.format(name=name.partition("=")[0], cut=cut)
    source = f"def attention(q, k, v, {name}):\n    scores = q @ k.mT\n    {added}\n    return scores.softmax(-1) @ v\n"
    result = target_of(confirm_source(tmp_path, source, device="cpu"), "attention")
    assert result.verdict == verdict, result.reason


@pytest.mark.parametrize(("weights", "verdict"), [("weights.detach()", "silent_corruption"), ("weights", "safe")])
def test_all_that_is_returned_is_measured(tmp_path: Path, weights: str, verdict: str) -> None:
    source = f"""def attention(q, k, v):
    scores = q @ k.mT
    weights = scores.softmax(-1)
    entropy = -({weights} * scores.log_softmax(-1)).sum(-1).mean()
    return weights @ v, entropy
"""
    result = target_of(confirm_source(tmp_path, source, device="cpu"), "attention")
    assert result.verdict == verdict, result.reason


ROUNDED = """import torch


def attention(q, k, v):
    rounded = q + ((q * 8).round() / 8 - q).detach()
    return torch.softmax(rounded @ k.mT / q.shape[-1] ** 0.5, dim=-1) @ v
"""


def test_a_staircase_is_never_safe(tmp_path: Path) -> None:
    result = target_of(confirm_source(tmp_path, ROUNDED, device="cpu"), "attention")
    assert result.verdict in ("silent_corruption", "inconclusive"), result.reason


COMPILED = """import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, dim=16, heads=2):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)

    @torch.compile
    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return ((q @ k.mT).softmax(-1) @ v).transpose(1, 2).reshape(b, n, d)
"""


def test_calls_that_failed_leave_no_frame_uncompiled(tmp_path: Path) -> None:
    result = target_of(confirm_source(tmp_path, COMPILED, device="cpu", timeout=120.0), "Attention")
    assert result.verdict == "first_order_only", result.reason


FUSED = """import torch.nn.functional as F


def attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v)
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_a_call_that_a_gpu_gives_to_a_fused_kernel_is_measured_in_the_precisions_that_do(tmp_path: Path) -> None:
    found = confirm_source(tmp_path, FUSED, device="cuda")
    result = target_of(found, "attention")
    assert result.verdict == "first_order_only", result.reason
    assert say(result.reason).startswith(("in bfloat16", "in float16", "in float32"))
    assert [finding.disposition for finding in found.findings] == ["confirmed"]


FLAGGED = """import torch
import torch.nn.functional as F
from torch import nn


class Attend(nn.Module):
    def __init__(self, fast: bool = False):
        super().__init__()
        self.fast = fast

    def forward(self, q, k, v):
        if self.fast:
            return F.scaled_dot_product_attention(q, k, v)
        return torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, dim=-1) @ v
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_a_flag_that_turns_a_fused_kernel_on_is_measured_in_the_precisions_that_take_it(tmp_path: Path) -> None:
    found = confirm_source(tmp_path, FLAGGED, device="cuda")
    verdicts = {(target.name, target.configuration): target.verdict for target in found.targets}
    assert verdicts == {("Attend", ""): "safe", ("Attend with fast=True", "fast=True"): "first_order_only"}


def test_a_fused_kernel_is_looked_for_in_the_precisions_that_it_takes() -> None:
    tried = []

    def make(spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        tried.append(spec.dtype)
        counter.fused += spec.dtype is torch.bfloat16
        raise ValueError("no call")

    counter = SdpaCounter()
    strategy = CallStrategy(make, ())
    spec = TrialSpec(ODD, "bhtd", torch.float64, "cuda", make_base_attention("reference"))
    found = find_fused_kernel_call(WorkingCall(strategy, spec, agrees=True), counter)
    assert found is not None
    assert found.spec.dtype is torch.bfloat16
    tried.clear()
    counter.fused = 0
    assert find_fused_kernel_call(WorkingCall(strategy, replace(spec, device="cpu"), agrees=True), counter) is None
    assert set(tried) == {torch.float64}


LOST = """import torch


def attention(q, k, v):
    if q.numel():
        raise RuntimeError("CUDA error: device-side assert triggered")
    return torch.softmax(q @ k.mT, dim=-1) @ v
"""


def test_a_target_that_costs_its_process_the_gpu_is_named(tmp_path: Path) -> None:
    result = target_of(confirm_source(tmp_path, LOST, device="cpu"), "attention")
    assert result.reason.code == ReasonCode.DEVICE_LOST


GATHERED = """import torch
from torch import nn


class EdgeAttention(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(dim, dim), nn.Linear(3 * dim, dim), nn.Linear(3 * dim, dim)

    def forward(self, x, vec, pos, edge_index):
        # x [N, C]; vec [N, 3, C]; pos [N, 3]; edge_index [2, E]
        src, dst = edge_index
        away = pos[dst] - pos[src]
        frame = torch.stack([away, away.roll(1, -1), away.roll(2, -1)], -2)
        local = torch.einsum("eij,ejc->eic", frame, vec[src]).flatten(1)
        weight = (self.q(x)[dst] * self.k(local)).sum(-1, keepdim=True).detach().exp()
        total = torch.zeros_like(x[:, :1]).index_add(0, dst, weight)
        return torch.zeros_like(x).index_add(0, dst, weight / total[dst] * self.v(local))
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_an_index_out_of_bounds_on_a_gpu_ends_no_search(tmp_path: Path) -> None:
    result = target_of(confirm_source(tmp_path, GATHERED, device="cuda"), "EdgeAttention")
    assert result.verdict.unsafe, result.reason
