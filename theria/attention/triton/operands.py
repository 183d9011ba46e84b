"""Tensors as the kernels want them: contiguous, masks with strides that are 0 where they broadcast."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from theria.attention.triton.kernel import interprets

#: What stands for a mask: its first element's tensor and its four strides.
Strided = tuple[Tensor, int, int, int, int]


def operand(x: Tensor) -> Tensor:
    """Contiguous, and float32 instead of bfloat16 where the interpreter runs.

    The interpreter multiplies bfloat16 as raw bits, and drops a carry when it rounds to bfloat16.
    """
    return x.to(_kernel_dtype(x)).contiguous()


def result(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty tensor for a kernel to fill, of the dtype that ``operand`` gives to ``like``."""
    return torch.empty(shape, dtype=_kernel_dtype(like), device=like.device)


def _kernel_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype == torch.bfloat16 and interprets(x) else x.dtype


@dataclass(frozen=True, slots=True)
class MaskOperand:
    """A mask for the kernels: ``kind`` 0 for none, 1 for boolean, 2 for additive."""

    kind: int
    strided: Strided


def mask_operand(mask: Tensor | None, stand_in: Tensor) -> MaskOperand:
    """``stand_in`` is a valid pointer for kernels that read no mask."""
    if mask is None:
        return MaskOperand(0, (stand_in, 0, 0, 0, 0))
    if mask.dtype == torch.bool:
        return MaskOperand(1, strided(mask.view(torch.uint8)))
    return MaskOperand(2, strided(mask))


def strided(x: Tensor) -> Strided:
    """A (B|1, H|1, T|1, M|1) tensor and its strides, 0 along dimensions of size 1: they broadcast."""
    b, h, t, m = (0 if size == 1 else stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return (x, b, h, t, m)
