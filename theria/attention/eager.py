"""What the two eager backends share: masked logits and grouped heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from theria.attention.canonical_problem import AttentionSettings


def repeat_heads(x: Tensor, heads: int) -> Tensor:
    """(B, Hk, M, D) → (B, H, M, D), each key head repeated for its group of query heads."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def sum_heads(x: Tensor, key_heads: int) -> Tensor:
    """The transpose of ``repeat_heads``: (B, H, M, D) → (B, Hk, M, D)."""
    return x if x.shape[1] == key_heads else x.reshape(x.shape[0], key_heads, -1, *x.shape[2:]).sum(2)


def masked_logits(q: Tensor, k: Tensor, mask: Tensor | None, settings: AttentionSettings) -> Tensor:
    """The capped scores + mask, −∞ where a query may not see a key: (B, H, T, M)."""
    return mask_logits(cap_scores(settings.scale * (q @ k.mT), settings), mask, settings)


def cap_scores(scores: Tensor, settings: AttentionSettings) -> Tensor:
    """c·tanh(score / c), or the scores themselves where they have no cap."""
    c = settings.softcap
    return scores if c is None else c * torch.tanh(scores / c)


def mask_logits(logits: Tensor, mask: Tensor | None, settings: AttentionSettings) -> Tensor:
    """Add the mask, and −∞ where a query may not see a key."""
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    left, right = settings.span
    every = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device)
    if left is not None:
        logits = logits.masked_fill(every.tril(-left - 1), -math.inf)
    if right is not None:
        logits = logits.masked_fill(every.triu(right + 1), -math.inf)
    return logits
