"""vmap for the Functions: the mapped dimension becomes part of the batch, so that one launch serves all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def fold(
    size: int, in_dims: Sequence[int | None], tensors: Sequence[Tensor | None], *, keep_mask: bool
) -> tuple[list[Tensor | None], int]:
    """Every (B, …) tensor as (size · B, …), mapped or not.

    A mask with batch 1 that is not mapped stays as it is, unless ``keep_mask``: then its gradient is wanted for every
    mapped index apart. The second result is the batch dimension that the mask had.
    """
    batch = _batch(in_dims, tensors)
    mask_batch = _unmapped_shape(tensors[3], in_dims[3])[0] if tensors[3] is not None else 1
    folded: list[Tensor | None] = []
    for i, (x, dim) in enumerate(zip(tensors, in_dims, strict=True)):
        if x is None:
            folded.append(None)
        elif i in _masks_of(len(tensors)) and dim is None and x.shape[0] == 1 and not keep_mask:
            folded.append(x)
        else:
            folded.append(_fold(x, dim, size, batch))
    return folded, mask_batch


def unfold(
    size: int, outputs: Sequence[Tensor | None], *, mask_at: int | None = None, mask_batch: int = 1
) -> tuple[tuple[Tensor | None, ...], tuple[int | None, ...]]:
    """(size · B, …) → (size, B, …), mapped over dimension 0; a mask's gradient is summed back to its own batch."""
    unfolded: list[Tensor | None] = []
    for i, x in enumerate(outputs):
        y = None if x is None else x.reshape(size, -1, *x.shape[1:])
        if y is not None and i == mask_at and mask_batch == 1:
            y = y.sum(1, keepdim=True)
        unfolded.append(y)
    return tuple(unfolded), tuple(None if y is None else 0 for y in unfolded)


def _masks_of(count: int) -> tuple[int, ...]:
    """The mask, and the last tensor of a Function that takes directions: the mask's."""
    return (3, count - 1) if count >= 10 else (3,)


def _unmapped_shape(x: Tensor | None, dim: int | None) -> Any:
    if x is None:
        return ()
    return x.shape if dim is None else x.movedim(dim, 0).shape[1:]


def _batch(in_dims: Sequence[int | None], tensors: Sequence[Tensor | None]) -> int:
    batch: int = _unmapped_shape(tensors[0], in_dims[0])[0]
    return batch


def _fold(x: Tensor, dim: int | None, size: int, batch: int) -> Tensor:
    mapped = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
    return mapped.expand(size, batch, *mapped.shape[2:]).reshape(size * batch, *mapped.shape[2:])
