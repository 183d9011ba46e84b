"""The reference backend: attention written out in eager PyTorch, so that autograd is right to any order."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def reference_attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None, is_causal: bool = False) -> Tensor:
    """softmax(scale · q kᵀ) v.

    Args:
        q: (B, H, T, D).
        k: (B, H, M, D).
        v: (B, H, M, Dv).
        scale: factor of the logits; 1/√D if None.
        is_causal: query t sees keys 0 … t.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    logits = scale * (q @ k.transpose(-2, -1))
    if is_causal:
        hidden = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        logits = logits.masked_fill(hidden, -math.inf)
    return torch.softmax(logits, dim=-1) @ v
