"""Looks suspicious and is not: the rotary tables are constants, so building them under no_grad loses nothing."""

import math

import torch


@torch.no_grad()
def rotary_tables(length, dim, like):
    """Cosines and sines (T,D/2) of the rotary position encoding."""
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2, device=like.device, dtype=like.dtype) / dim)
    angles = torch.arange(length, device=like.device, dtype=like.dtype)[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x):
    """Rotates the channel pairs of x (B,H,T,D) by their positions."""
    cos, sin = rotary_tables(x.shape[-2], x.shape[-1], x)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def rotary_attention(q, k, v):
    """Softmax attention of q (B,H,T,D), k (B,H,M,D), v (B,H,M,D) with rotary positions, D even."""
    logits = rotate(q) @ rotate(k).transpose(-2, -1) / math.sqrt(q.shape[-1])
    return torch.softmax(logits, dim=-1) @ v
