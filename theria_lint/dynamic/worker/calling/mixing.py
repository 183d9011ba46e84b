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
    state = torch.get_rng_state()
    returned = function(*values)
    moved = [value + torch.linspace(0, 1, value.numel()).view(value.shape).to(value) for value in values]
    with torch.random.fork_rng([]), torch.no_grad():
        torch.set_rng_state(state)
        other = select(function(*moved), values[0].shape, moved)
    if torch.equal(select(returned, values[0].shape, values), other):
        raise GarbageError("its output does not depend on its inputs as it was called")
    return returned


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
    state = torch.get_rng_state()
    returned = function(x)
    output = select(returned, x.shape, [x])
    if _positions(output, features) != _positions(x, features):
        return returned
    for moved in _patterns(x, features):
        changed_x = torch.where(moved, x + 1.0, x)
        with torch.random.fork_rng([]), torch.no_grad():
            torch.set_rng_state(state)
            other = select(function(changed_x), x.shape, [changed_x])
        changed = (other != output).any(dim=features)
        if bool((changed & ~moved.select(features, 0)).any()):
            return returned
    raise GarbageError("no position of its output depends on another position of its input as it was called")


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
