"""Cut the tensors of a recorded call: axes that share a size alike, and whole numbers along with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Cut = Mapping[int, int]
"""What becomes of the axes of a size, by that size."""


def cut_shape(shape: Sequence[int], cut: Cut) -> tuple[int, ...]:
    """A shape with some of its sizes cut."""
    return tuple(cut.get(size, size) for size in shape)


def cut_tensor(tensor: Tensor, cut: Cut) -> Tensor:
    """The beginning of a tensor along each axis that is cut; whole numbers that point beyond it point into it."""
    for axis, size in enumerate(tensor.shape):
        tensor = tensor.narrow(axis, 0, cut.get(size, size))
    if tensor.dtype is torch.bool or tensor.is_floating_point() or tensor.is_complex() or not tensor.numel():
        return tensor
    for size, left in sorted(cut.items()):
        largest = int(tensor.max())
        if largest == size:  # lengths of whole sequences, or the ends of packed ones
            ends = tensor.dim() == 1 and int(tensor[0]) == 0 and bool((tensor.diff() >= 0).all())
            return tensor * left // size if ends else tensor.clamp(max=left)
        if left <= largest < size:
            return tensor % left
    return tensor
