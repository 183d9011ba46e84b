"""Tile sizes: what fits into the shared memory and registers of one streaming multiprocessor."""

from __future__ import annotations

from dataclasses import dataclass

import torch

#: The widest head that the kernels hold in one tile.
_LARGEST_HEAD = 256

#: The same for compiled float64, whose double backward would need 256 KB of shared memory beyond it.
_LARGEST_HEAD_FLOAT64 = 128

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


def choose(width: int, dtype: torch.dtype, *, rows: int, interpreted: bool, second_order: bool) -> Blocks:
    """Sizes for a kernel whose widest head is ``width``.

    ``rows`` is the larger of T and M: nothing is gained by tiles beyond it. ``second_order`` kernels hold twice as
    many operands and score-shaped tiles as the others.
    """
    if interpreted:
        side = min(128, padded(rows))
        return Blocks(side, side, 4, 1)
    footprint = padded(width) * dtype.itemsize * (2 if second_order else 1)
    # wide accumulators spill out of the registers of four warps
    warps = 4 if footprint <= 256 else 8
    if dtype.itemsize > 2:
        # exact float32 products run without tensor cores, and float64 takes two registers an entry: small tiles
        side = 32 if footprint <= 512 else _SMALLEST
        return Blocks(side, side, warps, 1)
    side = 64 if footprint <= 512 else 32
    return Blocks(side, side, warps, 2 if footprint <= 256 else 1)
