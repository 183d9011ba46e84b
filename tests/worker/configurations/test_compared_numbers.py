"""Values: what is lost where numbers are large or small, and nowhere else."""

from __future__ import annotations

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.confirm.confirm import Confirmation
from theria_lint.report.sentences import say

SOURCE = """
import torch
from torch import nn


def score(q, k):
    return q @ k.mT / q.shape[-1] ** 0.5


def limited_attention(q, k, v):
    return score(q, k).clamp(-50, 50).softmax(-1) @ v


def capped_attention(q, k, v):
    s = score(q, k)
    return torch.where(s.abs() > 30, 30 * torch.tanh(s / 30), s).softmax(-1) @ v


def shifted_attention(q, k, v):
    s = score(q, k)
    if s.abs().max() > 50:
        s = s - s.amax(-1, keepdim=True).detach()
    return s.softmax(-1) @ v


def detached_attention(q, k, v):
    s = score(q, k)
    return torch.where(s.abs() > 30, s.detach(), s).softmax(-1) @ v


def straight_attention(q, k, v):
    s = score(q, k)
    return (s + (s.clamp(-50, 50) - s).detach()).softmax(-1) @ v


def clipped_attention(q, k, v):
    s = score(q, k)
    if s.requires_grad:
        s.register_hook(lambda gradient: gradient.clamp(-100, 100))
    return s.softmax(-1) @ v


def branching_attention(q, k, v):
    s = score(q, k)
    return (s.detach() if s.abs().max().item() > 60 else s).softmax(-1) @ v


def faint_attention(q, k, v):
    s = score(q, k)
    return torch.where(s.abs().amax(-1, keepdim=True) < 0.05, s.detach(), s).softmax(-1) @ v


def saturated_attention(q, k, v):
    w = score(q, k).exp().clamp(max=1e6)
    w = w.detach() if w.max() >= 1e6 else w
    return w / w.sum(-1, keepdim=True) @ v


class Attention(nn.Module):
    def __init__(self, dim=16, heads=2):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.temperature = nn.Parameter(torch.full((heads, 1, 1), 2.0))

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        s = nn.functional.normalize(q, dim=-1) @ nn.functional.normalize(k, dim=-1).mT
        return ((s * self.limit(self.temperature).exp()).softmax(-1) @ v).transpose(1, 2).flatten(2)


class CosineAttention(Attention):
    def limit(self, temperature):
        return temperature.clamp(max=4.6)


class StraightCosineAttention(Attention):
    def limit(self, temperature):
        return temperature + (temperature.clamp(max=4.6) - temperature).detach()
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("values"), SOURCE, timeout=120.0)


@pytest.mark.parametrize(
    ("symbol", "verdict"),
    [
        ("limited_attention", "safe"),
        ("capped_attention", "safe"),
        ("shifted_attention", "safe"),
        ("CosineAttention", "safe"),
        ("detached_attention", "silent_collapse"),
        ("straight_attention", "silent_corruption"),
        ("clipped_attention", "silent_corruption"),
        ("branching_attention", "hard_structural"),
        ("faint_attention", "silent_collapse"),
        ("saturated_attention", "hard_structural"),
        ("StraightCosineAttention", "silent_corruption"),
    ],
)
def test_what_acts_at_some_values_only_is_measured_there(found: Confirmation, symbol: str, verdict: str) -> None:
    assert target_of(found, symbol).verdict == verdict, say(target_of(found, symbol).reason)
    suspects = [f for f in found.findings if f.suspect.symbol.startswith(symbol)]
    assert all(f.disposition == ("cleared" if verdict == "safe" else "confirmed") for f in suspects)
