"""Tensors whose flag is turned off: a leaf is a constant from there on, what was computed would raise."""

import torch


def frozen_keys(q, k, v):  # verdict: first_order_only
    k.requires_grad_(False)  # expect: THL002 confirmed
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


def constant_scale(q, k, v):  # verdict: safe
    scale = torch.full((1,), q.shape[-1] ** -0.5, dtype=q.dtype)
    scale.requires_grad_(False)  # expect: THL002 cleared
    scale.requires_grad_(q.requires_grad)  # near miss: as the queries are
    return (q @ k.transpose(-2, -1) * scale).softmax(dim=-1) @ v


def unfrozen_flag(q, k, v):  # verdict: safe
    scale = torch.full((1,), q.shape[-1] ** -0.5, dtype=q.dtype)
    scale.requires_grad = True  # near miss: the flag is turned on
    return (q @ k.transpose(-2, -1) * scale).softmax(dim=-1) @ v
