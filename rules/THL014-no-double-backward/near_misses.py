"""Distances that are written out, and operators outside attention."""

import torch


def distance_attention(q, k, v):  # verdict: safe
    distance = (q.unsqueeze(-2) - k.unsqueeze(-3)).square().sum(dim=-1)  # near miss: written out
    return (-distance).softmax(dim=-1) @ v


def count_neighbours(points, radius):
    return (torch.cdist(points, points) < radius).sum(dim=-1)  # near miss: no attention


def nearby_attention(q, k, v, radius=2.0):  # verdict: safe
    near = torch.cdist(q, k) < radius  # near miss: a truth value
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return (scores + 0.1 * near.to(scores.dtype)).softmax(dim=-1) @ v
