"""An unsafe derivative is traced to the operator in which it fails, or to the backward that the code brings."""

from typing import Any

import pytest
import torch
from torch import Tensor

from theria.probes.measure import measure
from theria.verdicts import Ground, Reason


def take_root(x: Tensor) -> Tensor:
    return (x - x).pow(2).sum(-1, keepdim=True).sqrt() * x


class Bend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x.cos())
        return x + 0.5 * x.sin()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return grad * (1 + 0.5 * slope)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.pow(3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return Refusing.apply(grad * 3 * x.pow(2))


class Refusing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise RuntimeError("no second derivative")


def find_origin(function: Any) -> Reason:
    report = measure(function, {"x": torch.randn(3, 4, dtype=torch.float64)})
    assert report.verdict.unsafe
    (found,) = [remark for remark in report.remarks if remark.code == Ground.NODE_FOUND]
    return found


@pytest.mark.parametrize(
    ("function", "kind", "operator"),
    [
        (take_root, "nan", "PowBackward0"),
        (lambda x: Bend.apply(x), "own", "Bend"),
        (lambda x: Once.apply(x), "raises", "OnceBackward"),
    ],
)
def test_the_node_is_named_with_the_line_that_led_to_it(function: Any, kind: str, operator: str) -> None:
    data = find_origin(function).data
    assert (data["kind"], data["operator"], data["file"]) == (kind, operator, "test_node_origin.py")
    if kind == "nan":
        assert data["line"] == take_root.__code__.co_firstlineno + 1


def test_what_is_not_a_number_is_told_apart_from_what_is_wrong() -> None:
    report = measure(take_root, {"x": torch.randn(3, 4, dtype=torch.float64)})
    assert report.why.code == Ground.BLOCKS_LOST
    assert report.why.data["nan"] == report.why.data["wrong"]
    assert report.why.data["nan"]
    assert report.reason.startswith("nothing raises, but the second derivative is NaN")


def test_a_sound_function_is_not_traced() -> None:
    report = measure(torch.sin, {"x": torch.randn(3, 4, dtype=torch.float64)})
    assert report.safe
    assert not report.remarks
