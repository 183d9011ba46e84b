"""Whether anything attends: whether a position of a module's output depends on other positions of its input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from theria_lint.dynamic.worker.calling.calls import select
from theria_lint.dynamic.worker.calling.search import GarbageError


def depending(function: Callable[..., Any], values: Sequence[Tensor]) -> Any:
    """What the function returns for some tensors, once it is known to depend on them.

    Raises:
        GarbageError: if it does not.
    """
    moved = [value + torch.linspace(0, 1, value.numel()).view(value.shape).to(value) for value in values]
    if torch.equal(_beside(function, values, values[0]), _beside(function, moved, values[0])):
        raise GarbageError("its output does not depend on its inputs as it was called")
    return function(*values)


def attending(function: Callable[[Tensor], Any], x: Tensor, features: int) -> Any:
    """What the function returns for ``x``, once it is known that something attends.

    Some positions are moved, in several patterns, and the output has to change at another: an attention that is
    switched off leaves the layers around it, which say nothing of it. An output of another shape has positions of its
    own and tells nothing.

    Args:
        function: a module as a function of ``x`` alone, with the random numbers of the present state.
        x: its input, features along one axis, positions along the others.
        features: that axis.

    Raises:
        GarbageError: if the output changes nowhere but where ``x`` does.
    """
    output = _beside(function, [x], x)
    if _positions(output, features) != _positions(x, features):
        return function(x)
    for moved in _patterns(x, features):
        changed = (_beside(function, [torch.where(moved, x + 1.0, x)], x) != output).any(dim=features)
        if bool((changed & ~moved.select(features, 0)).any()):
            return function(x)
    raise GarbageError("no position of its output depends on another position of its input as it was called")


def _beside(function: Callable[..., Any], values: Sequence[Tensor], like: Tensor) -> Tensor:
    """The output for some tensors alone, with the random numbers of the present state kept.

    The call that counts comes after all of these: a module may write into what an earlier call has saved, its cache.
    """
    leaves = [value.detach().clone().requires_grad_(value.requires_grad) for value in values]
    with torch.random.fork_rng([]):
        return select(function(*leaves), like.shape, leaves).detach()


def _positions(tensor: Tensor, features: int) -> list[int]:
    shape = list(tensor.shape)
    if -len(shape) <= features < len(shape):
        del shape[features]
    return shape


def _patterns(x: Tensor, features: int) -> Iterator[Tensor]:
    """Positions of the first sequence, as masks of ``x``'s shape: along each axis either half, then every other one.

    Between halves everything attends but windows, between neighbours everything but what is dilated.
    """
    first, *others = [axis for axis in range(x.dim()) if axis != features % x.dim()]
    for axis in others or [first]:
        length = x.shape[axis]
        for chosen in (slice(0, length // 2), slice(length // 2, None), slice(0, None, 2), slice(1, None, 2)):
            moved = torch.zeros_like(x, dtype=torch.bool)
            sequence = moved.narrow(first, 0, 1) if others else moved
            sequence.movedim(axis, 0)[chosen] = True
            yield moved
