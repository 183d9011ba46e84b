"""Attention that takes hard weights and the gradient of soft ones."""

import torch


def hard_attention(q, k, v):  # verdict: silent_corruption
    soft = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    hard = torch.zeros_like(soft).scatter(-1, soft.argmax(dim=-1, keepdim=True), 1.0)
    weights = soft + (hard - soft).detach()  # expect: THL012 confirmed
    return weights @ v
