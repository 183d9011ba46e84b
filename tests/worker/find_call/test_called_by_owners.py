"""A module that no guess can call is called as one of its package that builds it does."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.confirm.confirm import Confirmation
from theria_lint.report.sentences import say
from theria_lint.worker.find_call.watched_call import find_owners

SOURCE = """
import torch
from torch import nn


class FoldedAttention(nn.Module):
    def __init__(self, dim, plan):
        super().__init__()
        self.qkv, self.plan = nn.Linear(dim, 3 * dim), plan

    def forward(self, x, fold, unfold):
        q, k, v = self.qkv(fold(x, self.plan["width"])).chunk(3, -1)
        return unfold((q @ k.mT).softmax(-1) @ v)


class FrozenAttention(FoldedAttention):
    def forward(self, x, fold, unfold):
        return super().forward(x, fold, unfold).detach() + x


def fold(x, width):
    return x.reshape(x.shape[0], -1, width)


def unfold(x):
    return x.flatten(1)


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.attention = FoldedAttention(dim, {"width": dim})
        self.frozen = FrozenAttention(dim, {"width": dim})

    def forward(self, x):
        y = self.attention(x.flatten(1), fold, unfold)
        return x + (y + self.frozen(y, fold, unfold)).view(x.shape)


class LonelyAttention(FoldedAttention):
    def forward(self, x, fold, unfold):
        return super().forward(x, fold, unfold)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("owners"), SOURCE, device="cpu")


def test_a_module_is_called_as_its_owner_calls_it(found: Confirmation) -> None:
    result = target_of(found, "FoldedAttention")
    assert result.verdict == "safe", result.reason
    assert any("called as Block does" in say(note) for run in result.runs for note in run.notes)


def test_damage_is_found_in_such_a_call(found: Confirmation) -> None:
    (finding,) = found.findings
    assert target_of(found, "FrozenAttention").verdict.unsafe
    assert finding.disposition == "confirmed"


def test_what_nobody_builds_is_still_not_called(found: Confirmation) -> None:
    assert target_of(found, "LonelyAttention").verdict == "inconclusive"


def test_what_is_no_module_among_those_of_a_package_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package may put None there, for what cannot be imported, or an object of its own."""
    home = ModuleType("owning.home")
    exec(SOURCE, vars(home))
    for name, held in (("owning.home", home), ("owning.absent", None), ("owning.odd", object())):
        monkeypatch.setitem(sys.modules, name, held)
    assert [owner.__name__ for owner in find_owners(home.FoldedAttention)] == ["Block"]
