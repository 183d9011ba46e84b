"""Draw what is given to arguments that are None by default: a tensor, several of them, or a memory that grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from theria.probes.layouts import Shape

Draw = Callable[[str, tuple[int, ...]], Tensor]
"""Makes a random tensor that depends on its name, and has a shape."""

GROWS = "update"
"""Stands for the method of a memory that is asked for all keys and values, and told the newest."""

CALLED = "()"
"""Stands for a call of the argument itself, which is given scores, weights or the like, and returns others."""


@dataclass(frozen=True)
class TensorForm:
    """What an argument holds: a tensor, a tuple or mapping of such by ``keys``, a memory that ``GROWS``, or a function.

    ``axes`` of each tensor, the last for all further ones: b is the batch, h heads, t queries, s keys, d the channels
    of a head, e those of a value, c those of all heads, and a digit is a size. ``resized``: sizes that are others here.
    """

    axes: tuple[str, ...]
    keys: tuple[int | str, ...] = ()
    resized: tuple[tuple[int, int], ...] = ()

    def resize(self, before: int, after: int) -> TensorForm:
        """The form with another size in the place of one."""
        return replace(self, resized=(*self.resized, (before, after)))

    def draw(self, name: str, shape: Shape, draw: Draw) -> Any:
        """Random numbers in this form."""
        if self.keys == (GROWS,):
            return GrowingMemory(shape.keys, draw)
        if self.keys == (CALLED,):
            return change_numbers
        if not self.keys:
            return draw(name, self._compute_sizes(shape, self.axes[0]))
        axes = zip_longest(self.keys, self.axes[: len(self.keys)], fillvalue=self.axes[-1])
        drawn = {key: draw(f"{name}.{key}", self._compute_sizes(shape, str(found))) for key, found in axes}
        return drawn if isinstance(self.keys[0], str) else tuple(drawn.values())

    def list_sizes(self, shape: Shape) -> set[int]:
        """The sizes that its tensors have."""
        return {size for axes in self.axes for size in self._compute_sizes(shape, axes)}

    def _compute_sizes(self, shape: Shape, axes: str) -> tuple[int, ...]:
        known = {"b": shape.batch, "h": shape.heads, "t": shape.queries, "s": shape.keys}
        known |= {"d": shape.dim, "e": shape.value_dim, "c": shape.heads * shape.dim}
        sizes = [known[axis] if axis in known else int(axis) for axis in axes]
        for before, after in self.resized:
            sizes = [after if size == before else size for size in sizes]
        return tuple(sizes)


def change_numbers(numbers: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Other numbers in the place of some: what changes scores may be told their positions as well."""
    return 0.75 * numbers


class GrowingMemory:
    """Stands for the memory of keys and values that models keep: it gives those of earlier positions, then the new."""

    def __init__(self, length: int, draw: Draw) -> None:
        """Remember a number of positions, of whatever shape the new ones have."""
        self._length, self._draw = length, draw

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The keys and the values of all positions, which stand before the channels."""
        both = {"keys": keys, "values": values}
        before = {n: self._draw(n, (*t.shape[:-2], self._length, t.shape[-1])).to(t) for n, t in both.items()}
        return torch.cat((before["keys"], keys), -2), torch.cat((before["values"], values), -2)

    def get_seq_length(self, *args: Any) -> int:
        """How many positions it remembers."""
        return self._length
