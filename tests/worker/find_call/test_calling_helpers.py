"""Helpers, gates and layouts: the verdicts that the mathematics of some small kernels deserves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.model import TargetResult
from theria_lint.report.sentences import say

HEAD = '''"""Kernels for a test."""

import torch

'''

GATED = '''
def attention(q, k, v, g):
    """Attention with decays.

    Args:
        q, k, v: of shape [B, T, H, D]
        g: log decays of shape [B, T, H]
    """
    b, t, h, d = q.shape
    assert g.shape == (b, t, h)
    c = {gate}.cumsum(1).transpose(1, 2)
    decay = (c[..., :, None] - c[..., None, :]).tril().exp().tril()
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return ((q @ k.mT * decay) @ v).transpose(1, 2)
'''

FUNCTION = '''
class Inner(torch.autograd.Function):
    """L = q (kᵀ v) exp(g), with a gate for each head that the caller makes from a decay it has no default for."""

    @staticmethod
    def forward(ctx, q, k, v, g, spec):
        if spec["kind"] != "linear":
            raise ValueError("spec is made by its caller")
        ctx.save_for_backward(q, k, v, g)
        return (q @ (k.mT @ v)) * g.exp()

    @staticmethod
    def backward(ctx, do):
        q, k, v, g = ctx.saved_tensors
        {guard}
        e = g.exp()
        dq, dk, dv = e * (do @ (v.mT @ k)), e * (v @ (do.mT @ q)), e * (k @ (q.mT @ do))
        dg = (e * (do * (q @ (k.mT @ v))).sum((-1, -2), keepdim=True)).sum_to_size(g.shape)
        return dq, dk, dv, dg, None


def linear_attention(q, k, v, g):
    """q, k, v: [B, H, T, D]; g: [B, H]"""
    assert g.shape == q.shape[:2]
    return Inner.apply(q * q.shape[-1] ** -0.5, k, v, g[..., None, None], {{"kind": "linear"}})
'''

FORWARD_HALF = """
def inner_forward(q, k, v, spec):
    if spec["kind"] != "linear":
        raise ValueError("spec is made by its caller")
    return q.detach() @ (k.detach().mT @ v.detach())


class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return inner_forward(q, k, v, {"kind": "linear"})

    @staticmethod
    def backward(ctx, do):
        q, k, v = ctx.saved_tensors
        return do @ (v.mT @ k), v @ (do.mT @ q), k @ (q.mT @ do)


def linear_attention(q, k, v):
    return Attention.apply(q, k, v)


def use_elsewhere(q, k, v):
    with torch.no_grad():
        return inner_forward(q, k, v, {"kind": "linear"})
"""

CHUNKED = '''
def chunked_attention(q, k, v, chunk_size=64):
    """q, k, v: [B, H, T, D]"""
    state, out = 0.0, []
    for start in range(0, q.shape[-2], chunk_size):
        a, b, c = (x[..., start : start + chunk_size, :] for x in (q, k, v))
        out.append(a @ state + (a @ b.mT).tril() @ c if start else (a @ b.mT).tril() @ c)
        state = state + {state}
    return torch.cat(out, -2)
'''


def result_of(folder: Path, source: str, symbol: str) -> TargetResult:
    return target_of(confirm_source(folder, HEAD + source), symbol)


@pytest.mark.parametrize(
    ("gate", "verdict"), [("g", "safe"), ("g.detach()", "hard_structural"), ("Once.apply(g)", "silent_corruption")]
)
def test_a_gate_is_an_input_as_much_as_the_others(tmp_path: Path, gate: str, verdict: str) -> None:
    """``Once`` has the right gradient, and loses the derivatives of the gradient in g by all that is above it."""
    once = """
class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, g):
        return g * 1.0

    @staticmethod
    def backward(ctx, grad):
        return grad.detach()

"""
    result = result_of(tmp_path, once + GATED.format(gate=gate), "attention")
    assert result.verdict == verdict, result.reason
    if verdict == "safe":
        assert set(result.runs[0].gradients) == {"q", "k", "v", "g"}
        assert {"g,g", "q,g", "g,out"} <= set(result.runs[0].blocks)


@pytest.mark.parametrize(
    ("guard", "verdict"),
    [("pass", "safe"), ("q, k, v, g = (x.detach() for x in (q, k, v, g))", "silent_collapse")],
)
def test_a_function_is_called_as_its_caller_does(tmp_path: Path, guard: str, verdict: str) -> None:
    """With all that it saved detached, the derivatives by the cotangent are left, and no Hessian block."""
    result = result_of(tmp_path, FUNCTION.format(guard=guard), "Inner")
    assert result.verdict == verdict, result.reason
    assert set(result.runs[0].gradients) == {"q", "k", "v", "g"}


def test_the_forward_half_of_a_function_is_no_target_of_its_own(tmp_path: Path) -> None:
    result = result_of(tmp_path, FORWARD_HALF, "inner_forward")
    assert result.verdict == "inconclusive"
    assert "outside the graph only" in say(result.reason)
    assert result_of(tmp_path, FORWARD_HALF, "linear_attention").verdict == "safe"


@pytest.mark.parametrize(
    ("state", "verdict"), [("b.mT @ c", "safe"), ("b.mT.detach() @ c.detach()", "silent_corruption")]
)
def test_what_happens_between_chunks_is_seen(tmp_path: Path, state: str, verdict: str) -> None:
    result = result_of(tmp_path, CHUNKED.format(state=state), "chunked_attention")
    assert result.verdict == verdict, result.reason


TIME_FIRST = """
def sigmoid_attention(queries, keys, values):
    s = torch.einsum("bthd,bshd->bhts", queries, keys)
    return torch.einsum("bhts,bshd->bthd", torch.sigmoid({s}), values)
"""


@pytest.mark.parametrize(
    ("s", "verdict"), [("s", "safe"), ("s - s.amax(-1, keepdim=True).detach()", "silent_corruption")]
)
def test_the_axis_of_time_is_found_by_running(tmp_path: Path, s: str, verdict: str) -> None:
    result = result_of(tmp_path, TIME_FIRST.format(s=s), "sigmoid_attention")
    assert result.verdict == verdict, result.reason
