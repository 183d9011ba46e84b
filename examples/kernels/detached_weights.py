"""A value-only gradient: the softmax output is detached, so q and k are unused."""

import math

import torch


class ValueOnlyAttention(torch.nn.Module):
    """Single-head self-attention on x (B,T,C) that trains nothing but its value path."""

    def __init__(self, dim):
        super().__init__()
        self.qkv = torch.nn.Linear(dim, 3 * dim, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1).detach()
        return weights @ v
