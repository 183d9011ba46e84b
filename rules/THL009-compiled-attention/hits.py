"""Attention that is compiled, and so has one backward only."""

import torch


@torch.compile  # expect: THL009 confirmed
def compiled_attention(q, k, v):  # verdict: first_order_only
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
