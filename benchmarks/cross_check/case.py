"""What is examined, and how to say in one line how a callable is built and called.

A module is differentiated in its inputs and in all its parameters; those that start at a special value (zero, one) are
moved away from it, because a zero hides whatever stands behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

EXACT, ROUGH = 1e-4, 3e-2
"""Relative error up to which a derivative is right, for code that computes in float64 and for any other."""

PARAMETERS = "p"
"""The name of a module's parameters among its inputs."""


@dataclass(frozen=True)
class Case:
    """A function to differentiate, its inputs, the relative error that is rounding, and whether it insists on a GPU."""

    function: Callable[..., Tensor]
    inputs: Mapping[str, Tensor]
    tolerance: float = EXACT
    gpu: bool = False


Make = Callable[[Any], Case]
"""Makes a case of a class or function."""

Shape = tuple[int, ...]

KERNEL: dict[str, Any] = {"dtype": torch.float32, "tolerance": ROUGH, "gpu": True}
"""For Triton kernels that compute in float32 and insist on a GPU."""


def pick(returned: Any) -> Tensor:
    """The first floating-point tensor among what a callable returns."""
    if isinstance(returned, Tensor):
        return returned
    return next(t for t in returned if isinstance(t, Tensor) and t.is_floating_point())


def draw(shapes: dict[str, Shape], dtype: torch.dtype) -> dict[str, Tensor]:
    """Normal numbers."""
    return {name: torch.randn(shape, dtype=torch.float64).to(dtype) for name, shape in shapes.items()}


def module(
    *arguments: Any,
    inputs: dict[str, Shape],
    call: Callable[..., Any] | None = None,
    dtype: torch.dtype = torch.float64,
    evaluating: bool = False,
    tolerance: float = EXACT,
    gpu: bool = False,
    **options: Any,
) -> Make:
    """A class to construct with some arguments; ``call`` takes the module and the inputs, by default in order."""

    def make(cls: Any) -> Case:
        built = cls(*arguments, **options).to(dtype).train(not evaluating)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, dtype=torch.float64).to(dtype))
        weights = {name: p for name, p in built.named_parameters() if p.is_floating_point()}
        sizes = [p.numel() for p in weights.values()]

        def function(*values: Tensor) -> Tensor:
            *given, vector = values if weights else (*values, None)
            if vector is None:
                return pick(call(built, *given) if call else built(*given))
            parts = torch.split(vector, sizes)
            replaced = {name: part.view(p.shape) for (name, p), part in zip(weights.items(), parts, strict=True)}
            with torch.nn.utils.stateless._reparametrize_module(built, replaced):
                return pick(call(built, *given) if call else built(*given))

        tensors = draw(inputs, dtype)
        if weights:
            tensors["p"] = torch.cat([p.detach().reshape(-1) for p in weights.values()])
        return Case(function, tensors, tolerance, gpu)

    return make


def function(
    *,
    inputs: dict[str, Shape],
    call: Callable[..., Any] | None = None,
    dtype: torch.dtype = torch.float64,
    tolerance: float = EXACT,
    gpu: bool = False,
    **options: Any,
) -> Make:
    """A function, or the ``apply`` of an autograd.Function; ``call`` takes it and the inputs, by default in order."""

    def make(target: Any) -> Case:
        plain = target.apply if isinstance(target, type) and issubclass(target, torch.autograd.Function) else target

        def called(*values: Tensor) -> Tensor:
            return pick(call(plain, *values) if call else plain(*values, **options))

        return Case(called, draw(inputs, dtype), tolerance, gpu)

    return make


def qkv(batch: int = 2, heads: int = 3, queries: int = 6, keys: int = 6, dim: int = 4) -> dict[str, Shape]:
    """The shapes of q, k and v, heads before positions."""
    return {"q": (batch, heads, queries, dim), "k": (batch, heads, keys, dim), "v": (batch, heads, keys, dim)}


def x(*shape: int) -> dict[str, Shape]:
    """One input."""
    return {"x": shape}
