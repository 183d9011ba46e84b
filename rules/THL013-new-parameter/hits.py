"""Weights that are computed, and forget how."""

import torch
from torch import nn


class PredictedWeights(nn.Module):  # verdict: silent_corruption
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.code = nn.Linear(dim, dim * dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)

    def forward(self, x):
        predicted = self.code(x.mean((0, 1))).view_as(self.key.weight)
        self.key.weight = nn.Parameter(predicted)  # expect: THL013 confirmed
        return (x @ self.key(x).transpose(-2, -1)).softmax(dim=-1) @ x


def attention_of_a_new_key(q, k, v):  # verdict: hard_structural
    key = nn.Parameter(k * 2)  # expect: THL013 confirmed
    return (q @ key.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


class LoadedWeights(nn.Module):  # verdict: silent_corruption
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.code = nn.Linear(dim, dim * dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)

    def forward(self, x):
        state = {"weight": self.code(x.mean((0, 1))).view_as(self.key.weight)}
        self.key.load_state_dict(state)  # expect: THL013 confirmed
        return (x @ self.key(x).transpose(-2, -1)).softmax(dim=-1) @ x
