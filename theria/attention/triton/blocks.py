"""Tile sizes: what fits into the shared memory and registers of one streaming multiprocessor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

#: What a kernel computes.
Task = Literal["forward", "vjp_query", "vjp_key", "statistics", "jvp", "double_backward"]

#: Tasks whose programs own a block of keys; those of the others own a block of queries.
BY_KEY = ("vjp_key", "double_backward")

#: The widest head that the kernels hold in one tile.
_LARGEST_HEAD = 256

#: The same for compiled float64, whose double backward would need 256 KB of shared memory beyond it.
_LARGEST_HEAD_FLOAT64 = 128

#: The widest float32 head whose products are split for the tensor cores: what is split takes room twice.
WIDEST_SPLIT = 128

#: ``tl.dot`` takes no smaller side.
_SMALLEST = 16


@dataclass(frozen=True, slots=True)
class Blocks:
    """Queries and keys a tile, and the launch options that go with them."""

    queries: int
    keys: int
    warps: int
    stages: int


def padded(width: int) -> int:
    """The power of two that a head dimension is padded to inside a kernel."""
    return max(_SMALLEST, 1 << (width - 1).bit_length())


def largest_head(dtype: torch.dtype, *, interpreted: bool) -> int:
    """The widest head that the kernels support."""
    return _LARGEST_HEAD_FLOAT64 if dtype == torch.float64 and not interpreted else _LARGEST_HEAD


def choose_interpreted(queries: int, keys: int) -> Blocks:
    """Sizes for the interpreter, which has room for everything, of T queries and M keys: no larger than they need."""
    return Blocks(min(128, padded(queries)), min(128, padded(keys)), 4, 1)


@cache
def choose(task: Task, width: int, dtype: torch.dtype, *, crowded: bool = False) -> tuple[Blocks, ...]:
    """Sizes for the kernel of a task whose widest head is ``width``, the fastest first, then ever smaller ones.

    How much fits depends on the GPU, and on masks, which take room beside the operands. A ``crowded`` kernel makes so
    much of a score that it keeps fewer of them at a time.
    """
    own, other, warps, stages = _choose_fastest(task, padded(width), dtype)
    if crowded:
        other, stages = max(_SMALLEST, other // 2), 1
    sizes = [(own, other, warps, stages)]
    if stages > 1:
        sizes.append((own, other, warps, 1))
    while max(own, other) > _SMALLEST:
        own, other = (own // 2, other) if own >= other else (own, other // 2)
        sizes.append((own, other, warps, 1))
    by_key = task in BY_KEY
    return tuple(Blocks(y, x, *rest) if by_key else Blocks(x, y, *rest) for x, y, *rest in sizes)


def _choose_fastest(task: Task, width: int, dtype: torch.dtype) -> _Sizes:
    if dtype == torch.float64:
        # an entry takes two registers: small tiles
        side = 32 if width <= (32 if task in ("statistics", "jvp", "double_backward") else 64) else _SMALLEST
        return (side, side, 4 if width <= 32 else 8, 1)
    if dtype == torch.float32:
        return _SINGLE[task][max(64, width)] if width <= WIDEST_SPLIT else (_SMALLEST, _SMALLEST, 8, 1)
    return _HALF[task][max(64, width)]


#: Rows of the block that a program owns (of queries, or of keys), of those that it goes over, warps, stages.
_Sizes = tuple[int, int, int, int]

#: By head dimension, the fastest of those that `benchmarks/tile_sizes.py` tried on an H200.
_HALF: dict[Task, dict[int, _Sizes]] = {
    "forward": {64: (128, 64, 8, 3), 128: (128, 64, 8, 3), 256: (64, 64, 8, 1)},
    "vjp_query": {64: (128, 64, 8, 3), 128: (128, 64, 8, 3), 256: (64, 64, 8, 1)},
    "vjp_key": {64: (128, 128, 8, 1), 128: (128, 64, 8, 3), 256: (64, 64, 8, 1)},
    "statistics": {64: (128, 64, 8, 3), 128: (128, 64, 8, 2), 256: (128, 32, 8, 1)},
    "jvp": {64: (64, 64, 4, 2), 128: (128, 32, 8, 3), 256: (64, 64, 4, 1)},
    "double_backward": {64: (64, 64, 4, 1), 128: (128, 32, 8, 3), 256: (64, 32, 4, 2)},
}
_SINGLE: dict[Task, dict[int, _Sizes]] = {
    "forward": {64: (64, 64, 4, 1), 128: (64, 32, 4, 1)},
    "vjp_query": {64: (64, 64, 4, 1), 128: (128, 32, 8, 1)},
    "vjp_key": {64: (128, 64, 8, 1), 128: (128, 32, 8, 1)},
    "statistics": {64: (128, 64, 8, 1), 128: (64, 32, 4, 1)},
    "jvp": {64: (128, 32, 8, 1), 128: (64, 32, 8, 1)},
    "double_backward": {64: (128, 32, 8, 1), 128: (32, 32, 4, 1)},
}
