"""Attention on operators of PyTorch that can be differentiated once."""

import torch
import torch.nn.functional as F


def distance_attention(q, k, v):  # verdict: first_order_only
    distance = torch.cdist(q, k)  # expect: THL014 confirmed
    return (-distance.square()).softmax(dim=-1) @ v


def clustered_attention(q, k, v):  # verdict: first_order_only
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    open_ = torch.zeros_like(scores, dtype=torch.bool)
    return torch.ops.aten._masked_softmax(scores, open_, -1) @ v  # expect: THL014 confirmed
