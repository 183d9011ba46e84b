"""Looks suspicious and is not: statistics for a log are taken beside the graph, not in it."""

import math

import torch

HISTORY = []


def logged_attention(q, k, v):
    """Softmax attention of q (B,H,T,D), k (B,H,M,D), v (B,H,M,D) that logs the entropy of its weights."""
    weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1)
    with torch.no_grad():
        HISTORY.append(-(weights * weights.clamp_min(1e-12).log()).sum(-1).mean())
        del HISTORY[:-100]
    return weights @ v
