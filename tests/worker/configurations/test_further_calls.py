"""Masks, caps and the like: those that may be left out, and those that have to be given, if only as None."""

from __future__ import annotations

from pathlib import Path

from tests.support.confirming import confirm_source, finding_of, target_of

MASKED = """
from torch import nn


class MaskedAttention(nn.Module):
    def __init__(self, dim=12):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)

    def forward(self, x, *, mask):
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(-2, -1) / 3
        if mask is not None:
            scores = scores.masked_fill(~(mask[:, :, None] & mask[:, None, :]), -1e9).detach()
        return scores.softmax(-1) @ v
"""


def test_a_branch_behind_a_mask_that_may_be_none_is_reached(tmp_path: Path) -> None:
    found = confirm_source(tmp_path, MASKED)
    assert target_of(found, "MaskedAttention").verdict.unsafe
    assert finding_of(found, "THL002").disposition == "confirmed"


OPTIONAL = """
import torch


def cap_attention(q, k, v, softcap=None):
    s = q @ k.transpose(-2, -1) / 3
    if softcap is not None:
        s = softcap * torch.tanh(s / softcap).detach()
    return s.softmax(-1) @ v


def sink_attention(q, k, v, sinks=None):
    s = q @ k.transpose(-2, -1) / 3
    if sinks is None:
        return s.softmax(-1) @ v
    b = sinks.view(1, -1, 1, 1).expand(s.shape[0], s.shape[1], s.shape[2], 1)
    return torch.cat([s, b], -1).detach().softmax(-1)[..., :-1] @ v


def segment_attention(q, k, v, segment_ids=None):
    s = q @ k.transpose(-2, -1) / 3
    if segment_ids is not None:
        same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        s = s.masked_fill(~same, -1e9).detach()
    return s.softmax(-1) @ v


def temperature_attention(q, k, v, temperature=None):
    s = q @ k.transpose(-2, -1) / 3
    if temperature is not None:
        s = (s / temperature).detach()
    return s.softmax(-1) @ v


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def rotary_attention(q, k, v, cos=None, sin=None):
    if cos is not None:
        q = rotate(q, cos, sin).detach()
    return (q @ k.transpose(-2, -1) / 3).softmax(-1) @ v


def gated_attention(q, k, v, gate=None):
    o = (q @ k.transpose(-2, -1) / 3).softmax(-1) @ v
    if gate is not None:
        o = o * gate.sigmoid().detach()
    return o


def block_attention(q, k, v, block_mask=None):
    s = q @ k.transpose(-2, -1) / 3
    if block_mask is not None:
        s = s.masked_fill(~block_mask, -1e9).detach()
    return s.softmax(-1) @ v
"""


def test_branches_behind_what_may_be_left_out_are_reached(tmp_path: Path) -> None:
    """What no call needs in order to work is guessed all the same: these branches lose the curvature."""
    found = confirm_source(tmp_path, OPTIONAL)
    assert [finding.disposition for finding in found.findings] == ["confirmed"] * 7
