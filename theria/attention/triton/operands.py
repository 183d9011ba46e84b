"""Tensors as the kernels want them: contiguous, masks with strides that are 0 where they broadcast."""

from __future__ import annotations

from functools import cache

import torch
import triton
from torch import Tensor
from triton.compiler import make_backend

from theria.attention.triton.blocks import WIDEST_SPLIT
from theria.attention.triton.kernel import interprets

#: What stands for a mask: its first element's tensor and its four strides.
Strided = tuple[Tensor, int, int, int, int]


def operand(x: Tensor) -> Tensor:
    """Contiguous, and float32 instead of bfloat16 where the interpreter runs.

    The interpreter multiplies bfloat16 as raw bits, and drops a carry when it rounds to bfloat16.
    """
    return (x.float() if _is_widened(x) else x).contiguous()


def result(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty tensor for a kernel to fill, of the dtype that ``operand`` gives to ``like``."""
    return torch.empty(shape, dtype=torch.float32 if _is_widened(like) else like.dtype, device=like.device)


def _is_widened(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and interprets(x)


def product_precision(dtype: torch.dtype, width: int) -> str:
    """How ``tl.dot`` multiplies float32: as products of its parts on the tensor cores, as exact as float32 is.

    In one product of less precision where PyTorch is told to multiply so too. Other dtypes have one way.
    """
    if dtype != torch.float32 or width > WIDEST_SPLIT:
        return "ieee"
    matmul = torch.backends.cuda.matmul
    # PyTorch refuses to tell by the older name what was set by the newer, which came with 2.9.
    if getattr(matmul, "fp32_precision", None) == "tf32" or matmul.allow_tf32:
        return "tf32"
    return _split_products()


@cache
def _split_products() -> str:
    """Six products of bfloat16, or where this Triton or this GPU has them not, three of tf32, or plain float32."""
    backend = make_backend(triton.runtime.driver.active.get_current_target())
    offered = backend.parse_options({}).allowed_dot_input_precisions
    return next(precision for precision in ("bf16x6", "tf32x3", "ieee") if precision in offered)


def mask_operand(mask: Tensor | None, stand_in: Tensor) -> tuple[int, Strided]:
    """A mask for the kernels and its kind: 0 for none, 1 for boolean, 2 for additive.

    ``stand_in`` is a valid pointer for kernels that read no mask, and of the problem's dtype. With float64 a compiled
    kernel is given numbers for a boolean mask: Triton 3.6 fails to bring bytes into the layout of such a product.
    """
    if mask is None:
        return 0, (stand_in, 0, 0, 0, 0)
    if mask.dtype == torch.bool and stand_in.dtype == torch.float64 and not interprets(stand_in):
        mask = torch.zeros_like(mask, dtype=torch.float64).masked_fill_(~mask, -torch.inf)
    if mask.dtype == torch.bool:
        return 1, strided(mask.view(torch.uint8))
    return 2, strided(mask)


def strided(x: Tensor) -> Strided:
    """A (B|1, H|1, T|1, M|1) tensor and its strides, 0 along dimensions of size 1: they broadcast."""
    b, h, t, m = (0 if size == 1 else stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return (x, b, h, t, m)
