"""Dropout: what is lost where it drops something, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.report.sentences import say

SOURCE = """
import random

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    def __init__(self, dim, heads=2, dropout=0.1):
        super().__init__()
        self.heads, self.p, self.drop = heads, dropout, nn.Dropout(dropout)
        self.qkv = nn.Linear(dim, 3 * dim)

    def weigh(self, q, k, v):
        return self.change((q @ k.mT).softmax(-1)) @ v

    def attend(self, q, k, v):
        return self.weigh(q, k, v)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.attend(q, k, v).transpose(1, 2).flatten(2)


class DroppingAttention(Attention):
    def change(self, w):
        return self.drop(w)


class FunctionalAttention(Attention):
    def change(self, w):
        return F.dropout(w, self.p, self.training)


class ForgetfulAttention(DroppingAttention):
    def attend(self, q, k, v):
        return checkpoint(self.weigh, q, k, v, use_reentrant=False, preserve_rng_state=False)


class OverwritingAttention(Attention):
    def change(self, w):
        return w.mul_(torch.rand_like(w) > self.p) if self.training and self.p > 0 else w


class RandomAttention(Attention):
    def change(self, w):
        return w * (random.random() if self.p > 0 else 1.0)


class DetachingAttention(Attention):
    def change(self, w):
        return w.detach() if self.p > 0 else w


def attention(q, k, v, dropout_p=0.0):
    w = (q @ k.transpose(-1, -2)).softmax(-1)
    return F.dropout(w, dropout_p).detach() @ v if dropout_p else w @ v
"""


@pytest.mark.parametrize(
    ("symbol", "verdict"),
    [
        ("DroppingAttention", "safe"),
        ("FunctionalAttention", "safe"),
        ("RandomAttention", "safe"),
        ("ForgetfulAttention", "silent_corruption"),
        ("OverwritingAttention", "hard_structural"),
        ("DetachingAttention", "silent_collapse"),
        ("attention", "hard_structural"),
    ],
)
def test_what_dropout_alone_reaches_is_measured(tmp_path: Path, symbol: str, verdict: str) -> None:
    found = confirm_source(tmp_path, SOURCE)
    assert target_of(found, symbol).verdict == verdict, say(target_of(found, symbol).reason)
    if symbol == "DetachingAttention":
        (detach,) = [f for f in found.findings if f.suspect.symbol.startswith(symbol)]
        assert detach.disposition == "confirmed"
