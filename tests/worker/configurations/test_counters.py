"""What a target computes once it has counted to a number that its code asks about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.confirm.confirm import Confirmation
from theria_lint.report.sentences import say

SOURCE = """
import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, dim=16, heads=2, warmup=500):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.heads, self.warmup, self.steps = heads, warmup, 0
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        w = (q @ k.mT).softmax(-1)
        return ((w.detach() if self.is_later() else w) @ v).transpose(1, 2).flatten(2)


class CountingAttention(Attention):
    def is_later(self):
        self.steps += 1
        return self.steps > 100


class WarmedAttention(Attention):
    def is_later(self):
        self.steps = self.steps + 1
        return self.steps >= self.warmup


class BufferedAttention(Attention):
    def is_later(self):
        self.seen.add_(1)
        return self.seen > 1000


class AlternatingAttention(Attention):
    def is_later(self):
        self.steps += 1
        return self.steps % 4 == 0


class LoggingAttention(Attention):
    def is_later(self):
        self.steps += 1
        if self.steps > 100:
            self.logged = self.steps
        return False


class Block(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.attend = CountingAttention(dim)

    def forward(self, x):
        return x + self.attend(x)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("counters"), SOURCE, timeout=120.0)


@pytest.mark.parametrize(
    "symbol", ["CountingAttention", "WarmedAttention", "BufferedAttention", "AlternatingAttention", "Block"]
)
def test_a_later_call_is_measured(found: Confirmation, symbol: str) -> None:
    assert target_of(found, symbol).verdict == "silent_collapse", say(target_of(found, symbol).reason)


def test_what_is_only_logged_later_does_no_harm(found: Confirmation) -> None:
    assert target_of(found, "LoggingAttention").verdict == "safe"


def test_what_is_detached_later_is_confirmed(found: Confirmation) -> None:
    assert [finding.disposition for finding in found.findings] == ["confirmed"]


def test_calls_by_which_a_first_one_is_checked_clear_nothing(tmp_path: Path) -> None:
    """They are several, and count: what only they execute has not been measured."""
    alone = SOURCE[: SOURCE.index("class CountingAttention")].replace("self.is_later()", "self.count() == max(3, 2)")
    found = confirm_source(
        tmp_path, f"{alone}    def count(self):\n        self.steps += 1\n        return self.steps\n"
    )
    assert target_of(found, "Attention").verdict == "safe"
    assert [finding.disposition for finding in found.findings] == ["unconfirmed"]
