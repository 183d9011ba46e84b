"""All that a caller could learn is an input, and all that a target returns is an output, or the report says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.confirm.confirm import Confirmation
from theria_lint.reasons import ReasonCode
from theria_lint.report.sentences import say

KERNELS = """
import torch
from torch import nn


def core(q, k, v, added=0.0):
    return (q @ k.transpose(-2, -1) + added).softmax(-1) @ v


def mask_attention(q, k, v, mask=None):
    return core(q, k, v, 0.0 if mask is None else mask.detach() * 1.0)


def position_attention(q, k, v, positions):
    near = positions.detach()
    return core(q, k, v, -(near[..., :, None] - near[..., None, :]).abs())


def scale_attention(q, k, v, scale=None):
    return core(q if scale is None else q * torch.as_tensor(scale).detach(), k, v)


def state_attention(q, k, v, initial_state=None):
    return core(q, k, v) + (0.0 if initial_state is None else q @ initial_state.detach())


def keyword_attention(q, k, v, **kwargs):
    bias = kwargs.get("bias")
    return core(q, k, v, 0.0 if bias is None else bias.detach())


class WeightAttention(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)

    def forward(self, x, new_weight):
        with torch.no_grad():
            self.qkv.weight.copy_(new_weight)
        return core(*self.qkv(x).chunk(3, -1))


class PaddingAttention(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)

    def forward(self, x, key_padding_mask=None):
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(-2, -1)
        if key_padding_mask is not None:
            scores = scores.detach().masked_fill(~key_padding_mask[:, None].bool(), -1e9)
        return scores.softmax(-1) @ v


def unrecorded_attention(q, k, v):
    with torch.no_grad():
        lse = (q @ k.transpose(-2, -1)).logsumexp(-1)
    return core(q, k, v), {"lse": lse}


class Record:
    def __init__(self, out, loss):
        self.out, self.loss = out, loss


def record_attention(q, k, v):
    weights = (q @ k.transpose(-2, -1)).softmax(-1)
    return Record(weights @ v, (weights * weights.detach()).mean())


def detached_attention(q, k, v):
    return core(q, k, v), (q @ k.transpose(-2, -1)).softmax(-1).detach()


class Marked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        kept = x.square()
        ctx.mark_non_differentiable(kept)
        return x.clone(), kept

    @staticmethod
    def backward(ctx, grad, _):
        return grad


def marked_attention(q, k, v):
    return Marked.apply(core(q, k, v))


def all_attention(q, k, v, mask=None, scale=None, initial_state=None, **kwargs):
    added = (0.0 if mask is None else mask * 1.0) + kwargs.get("bias", 0.0)
    out = core(q if scale is None else q * scale, k, v, added)
    out = out if initial_state is None else out + q @ initial_state
    return out, k.transpose(-2, -1) @ v
"""
UNSAFE = {
    **dict.fromkeys(("mask_attention", "position_attention", "scale_attention", "state_attention"), "hard_structural"),
    **dict.fromkeys(("keyword_attention", "WeightAttention", "unrecorded_attention"), "hard_structural"),
    "PaddingAttention": "silent_collapse",
    "record_attention": "silent_corruption",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("inputs"), KERNELS, device="cpu")


@pytest.mark.parametrize("symbol", UNSAFE)
def test_what_is_lost_of_an_input_or_an_output_is_seen(found: Confirmation, symbol: str) -> None:
    assert target_of(found, symbol).verdict == UNSAFE[symbol], target_of(found, symbol).reason


@pytest.mark.parametrize("symbol", ["detached_attention", "marked_attention"])
def test_what_an_author_detaches_by_itself_is_said(found: Confirmation, symbol: str) -> None:
    result = target_of(found, symbol)
    assert result.verdict == "safe", result.reason
    assert (result.reason.code, result.reason.data["outputs"]) == (ReasonCode.DETACHED_OUTPUTS, ["2"])
    assert say(result.reason).startswith("but for tensor 2, ")


def test_inputs_and_outputs_that_are_recorded_are_safe(found: Confirmation) -> None:
    assert target_of(found, "all_attention").verdict == "safe", target_of(found, "all_attention").reason


def test_a_safe_verdict_says_what_was_differentiated_and_what_was_left_out(tmp_path: Path) -> None:
    source = (
        "import torch\n\n\ndef attention(q, k, v, bias, mask):\n"
        "    logits = (q @ k.mT + bias).masked_fill(~mask.bool(), float('-inf'))\n"
        "    weights = torch.softmax(logits, -1)\n    return weights @ v, weights.detach()\n"
    )
    (run,) = target_of(confirm_source(tmp_path, source), "attention").runs
    (note,) = (note for note in run.notes if note.code == ReasonCode.MEASURED)
    assert {"q", "k", "v"} <= set(note.data["inputs"])
    assert note.data["discrete"] == ["mask"]
    assert (note.data["outputs"], note.data["outside"]) == (["1"], ["2"])
    assert note.data["dtypes"] == ["float64"]
