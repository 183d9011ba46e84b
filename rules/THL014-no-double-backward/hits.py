"""Attention on operators of PyTorch that can be differentiated once."""

import torch
from torch import nn


def distance_attention(q, k, v):  # verdict: first_order_only
    distance = torch.cdist(q, k)  # expect: THL014 confirmed
    return (-distance.square()).softmax(dim=-1) @ v


def clustered_attention(q, k, v):  # verdict: first_order_only
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    open_ = torch.zeros_like(scores, dtype=torch.bool)
    return torch.ops.aten._masked_softmax(scores, open_, -1) @ v  # expect: THL014 confirmed


class RecurrentAttention(nn.Module):  # verdict: safe
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.recurrence, self.qkv = nn.GRU(dim, dim, batch_first=True), nn.Linear(dim, 3 * dim)  # expect: THL014 unconfirmed

    def forward(self, x):
        q, k, v = self.qkv(self.recurrence(x)[0]).chunk(3, dim=-1)
        return (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v
