"""The cross-check of the field report tells right from wrong, on functions whose class is known by hand."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

FOLDER = Path(__file__).parents[2] / "benchmarks" / "cross_check"
QKV = dict.fromkeys(("q", "k", "v"), (1, 2, 5, 3))


class Parts:
    """The modules under test."""

    def __init__(self) -> None:
        self.case: ModuleType = importlib.import_module("case")
        self.measure: ModuleType = importlib.import_module("measure_case")

    def verdict(self, function: Any) -> str:
        torch.manual_seed(0)
        found = self.measure.Check(self.case.function(inputs=QKV)(function)).examine()
        verdict: str = found.verdict()
        return verdict


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    monkeypatch.syspath_prepend(str(FOLDER))
    return Parts()


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT, -1) @ v


def one_severed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k.detach(), v) + k


def overwriting(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.mT).exp()
    return weights.div_(weights.sum(-1, keepdim=True)) @ v


def sigmoid_less_max(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT
    return torch.sigmoid(scores - scores.amax(-1, keepdim=True).detach()) @ v


class Opaque(torch.autograd.Function):
    """Attention whose backward is right and has none of its own."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        return attend(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors]
            return torch.autograd.grad(attend(*leaves), leaves, grad)


class Refusing(Opaque):
    """The same, and says so."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return Opaque.backward(ctx, grad)


@pytest.mark.parametrize(
    ("function", "verdict"),
    [
        (attend, "safe"),
        (one_severed, "silent_corruption"),
        (sigmoid_less_max, "silent_corruption"),
        (Opaque, "silent_collapse"),
        (Refusing, "first_order_only"),
        (lambda q, k, v: attend(q, k, v).detach(), "hard_structural"),
        (lambda *qkv: checkpoint(attend, *qkv, use_reentrant=True), "first_order_only"),
        (overwriting, "hard_structural"),
    ],
)
def test_class_of_a_known_function(parts: Parts, function: Callable[..., Tensor], verdict: str) -> None:
    assert parts.verdict(function) == verdict


def test_parameters_are_an_input(parts: Parts) -> None:
    class Projected(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = torch.nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return attend(x, x, self.project(x).detach() + 0.1 * self.project(x))

    check = parts.measure.Check(parts.case.module(inputs={"x": (2, 5, 4)})(Projected))
    found = check.examine()
    assert list(found.first) == ["x", "p"]
    assert found.first["p"] > 0.1
    assert found.verdict() == "silent_corruption"
