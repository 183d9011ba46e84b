"""Detached tensors that the output does not depend on: running the kernel clears them."""

import torch


def stable_attention(q, k, v):  # verdict: safe
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    # A softmax does not change when a constant of the row is taken off.
    scores = scores - scores.amax(dim=-1, keepdim=True).detach()  # expect: THL002 cleared
    weights = scores.exp()
    return weights / weights.sum(dim=-1, keepdim=True) @ v


OBSERVED = []


def observed_attention(q, k, v):  # verdict: safe
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    OBSERVED.append(weights.detach())  # expect: THL002 cleared
    return weights @ v
