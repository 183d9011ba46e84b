"""Attention computed where nothing is recorded: an inference path called in training."""

import math

import torch


@torch.no_grad()
def cached_attention(q, k, v):
    """Softmax attention of q (B,H,T,D), k (B,H,M,D), v (B,H,M,D)."""
    logits = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return torch.softmax(logits, dim=-1) @ v
