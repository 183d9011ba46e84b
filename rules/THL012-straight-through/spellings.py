"""The same sum with the function instead of the method."""

import torch


def hard_attention(q, k, v):  # verdict: silent_corruption
    soft = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    hard = torch.zeros_like(soft).scatter(-1, soft.argmax(dim=-1, keepdim=True), 1.0)
    weights = torch.detach(hard - soft) + soft  # expect: THL012 confirmed
    return weights @ v


def sharpened_attention(q, k, v):  # verdict: safe
    soft = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    weights = torch.clone(soft.square() - soft) + soft  # near miss: nothing is detached
    return weights @ v
