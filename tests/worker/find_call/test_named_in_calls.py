"""What a recorded call names is loaded where it is of the target's package, and what it rounds is no input."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.worker.find_call.test_replay_sizes import describe_call, replay, replay_all
from theria_lint.calls.constructions import Built
from theria_lint.model import TargetKind
from theria_lint.reasons import ReasonCode
from theria_lint.worker.find_call.run_trial import CannotCallError
from theria_lint.worker.parameter_vector import PARAMETERS

SHELF = """
from torch import nn


class Unit(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return (x @ x.mT).softmax(-1) @ self.inner(x)
"""

DOUBLED = """
from torch import nn


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of a package with a test's module in it, and another beside it."""
    tests = tmp_path / "shelf" / "tests"
    tests.mkdir(parents=True)
    for folder in (tests, tests.parent):
        (folder / "__init__.py").write_text("")
    (tests.parent / "unit.py").write_text(SHELF)
    (tests / "test_unit.py").write_text(DOUBLED)
    (tmp_path / "stranger.py").write_text(DOUBLED)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("shelf.unit")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shelf", "stranger")]:
        del sys.modules[name]


@pytest.mark.parametrize(("name", "loaded"), [("shelf.tests.test_unit", True), ("stranger", False)])
def test_a_module_of_the_package_is_loaded_and_no_other(shelf: Any, name: str, loaded: bool) -> None:
    doubled = importlib.import_module(name).Doubled()
    document = describe_call(torch.randn(3, 4), constructor=(doubled,), built=Built((), {}))
    del sys.modules[name]
    if loaded:
        assert replay_all(shelf.Unit, TargetKind.MODULE, document).make_call().inputs["x"].shape == (3, 4)
    else:
        with pytest.raises(CannotCallError) as caught:
            replay_all(shelf.Unit, TargetKind.MODULE, document)
        assert caught.value.reason.code is ReasonCode.LOST_ARGUMENT
    assert (name in sys.modules) is loaded


class Tokens(nn.Module):
    """Its tokens are cast to whole numbers in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def forward(self, tokens: Tensor, x: Tensor) -> Tensor:
        q = self.table(tokens.long()) + x
        return (q @ q.mT).softmax(-1) @ q


@pytest.mark.parametrize("tokens", [torch.zeros(2, 5), torch.full((2, 5), 8.0), torch.arange(5.0).expand(2, 5)])
def test_whole_numbers_that_are_rounded_are_no_input(tokens: Tensor) -> None:
    made = replay(Tokens, tokens, torch.randn(2, 5, 4), constructor=()).make_call()
    assert set(made.inputs) == {"x"}


@pytest.mark.parametrize("cut", [True, False])
def test_whole_numbers_that_are_not_are_one_though_they_may_be_taken_off_the_graph(cut: bool) -> None:
    def attend(bias: Tensor, x: Tensor) -> Tensor:
        return (x @ x.mT + (bias.detach() if cut else bias)).softmax(-1) @ x

    assert set(replay(attend, torch.ones(5, 5), torch.randn(2, 5, 4)).make_call().inputs) == {"bias", "x"}


def test_of_what_looks_at_parameters_alone_these_are_the_inputs() -> None:
    class Latent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Parameter(torch.randn(3, 4))

        def forward(self, ignored: Tensor) -> Tensor:
            return (self.q @ self.q.mT).softmax(-1) @ self.q

    assert set(replay(Latent, torch.ones(5), constructor=()).make_call().inputs) == {PARAMETERS}
