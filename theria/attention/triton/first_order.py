"""First order by the kernels of PyTorch's own attention, which keep the log-sum-exp that our double backward needs.

What they compute costs the user as much as ``F.scaled_dot_product_attention`` does. Gradients of flash attention are
summed in a fixed order only under ``torch.use_deterministic_algorithms``, as PyTorch's are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from theria.attention.canonical_problem import AttentionSettings

_STEP = 8
"""PyTorch pads other head dimensions before it calls these kernels."""
_FLASH = SDPBackend.FLASH_ATTENTION.value
_CUDNN = SDPBackend.CUDNN_ATTENTION.value


def choose_kernel(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, settings: AttentionSettings) -> int | None:
    """Flash attention or cuDNN's, whichever PyTorch takes for this problem, or None where it takes neither.

    PyTorch's choice is asked for, so that ``torch.nn.attention.sdpa_kernel`` is heeded.
    """
    if (
        mask is not None
        or settings.window != (None, None)
        or settings.seed is not None
        or settings.softcap is not None
        or settings.slopes is not None
        or not q.is_cuda
        or q.dtype not in (torch.float16, torch.bfloat16)
    ):
        return None
    if q.shape[3] % _STEP or q.shape[3] != v.shape[3] or (settings.is_causal and q.shape[2] != k.shape[2]):
        return None
    grouped = {"enable_gqa": True} if q.shape[1] != k.shape[1] else {}  # since PyTorch 2.5
    chosen: int = torch._fused_sdp_choice(q, k, v, None, 0.0, settings.is_causal, scale=settings.scale, **grouped)
    return chosen if chosen in (_FLASH, _CUDNN) else None


def compute_forward(kernel: int, q: Tensor, k: Tensor, v: Tensor, settings: AttentionSettings) -> tuple[Tensor, Tensor]:
    """The output (B, H, T, Dv) and the log-sum-exp (B, H, T)."""
    q, k, v = (_with_dense_rows(x) for x in (q, k, v))
    if kernel == _FLASH:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
            q, k, v, 0.0, settings.is_causal, False, scale=settings.scale
        )
    else:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
            q, k, v, None, True, 0.0, settings.is_causal, False, scale=settings.scale
        )
    return out, lse.reshape(q.shape[:3])


def compute_vjp(
    kernel: int,
    inputs: tuple[Tensor, Tensor, Tensor],
    out: Tensor,
    lse: Tensor,
    dout: Tensor,
    settings: AttentionSettings,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ⟨dout, out⟩ for the inputs q, k and v."""
    q, k, v, out, dout = (_with_dense_rows(x) for x in (*inputs, out, dout))
    lengths = (None, None, q.shape[2], k.shape[2])
    seed = (None, None)
    if kernel == _FLASH:
        gradients = torch.ops.aten._scaled_dot_product_flash_attention_backward(
            dout, q, k, v, out, lse, *lengths, 0.0, settings.is_causal, *seed, scale=settings.scale
        )
    else:
        gradients = torch.ops.aten._scaled_dot_product_cudnn_attention_backward(
            dout, q, k, v, out, lse.unsqueeze(-1), *seed, None, *lengths, 0.0, settings.is_causal,
            scale=settings.scale,
        )  # fmt: skip
    dq, dk, dv = gradients
    return dq, dk, dv


def _with_dense_rows(x: Tensor) -> Tensor:
    return x if x.stride(3) == 1 else x.contiguous()
