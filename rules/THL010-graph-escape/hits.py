"""Tensors that become numbers on their way to the output."""

import copy
import math

import torch
from torch import nn


def scaled_by_number(q, k, v):  # verdict: silent_corruption
    temperature = q.square().mean().sqrt().item()  # expect: THL010 confirmed
    return (q @ k.transpose(-2, -1) / temperature).softmax(dim=-1) @ v


def scaled_by_float(q, k, v):  # verdict: silent_corruption
    norm = float(k.norm())  # expect: THL010 confirmed
    return (q @ k.transpose(-2, -1) / norm).softmax(dim=-1) @ v


def scaled_by_root(q, k, v):  # verdict: silent_corruption
    norm = math.sqrt(k.square().sum())  # expect: THL010 confirmed
    return (q @ k.transpose(-2, -1) / norm).softmax(dim=-1) @ v


def attend_to_a_copy(q, k, v):  # verdict: hard_structural
    scores = copy.copy(q @ k.transpose(-2, -1))  # expect: THL010 confirmed
    return scores.softmax(dim=-1) @ v


def attend_to_bits(q, k, v):  # verdict: silent_corruption
    magnitude = (k.float().view(torch.int32) & 0x7FFFFFFF).view(torch.float32)  # expect: THL010 confirmed
    return (q @ (k + magnitude.to(k.dtype)).transpose(-2, -1)).softmax(dim=-1) @ v


class QuantisedAttention(nn.Module):  # verdict: silent_collapse
    def __init__(self, dim=16):
        super().__init__()
        self.query = nn.Linear(dim, dim)

    def forward(self, x):
        scores = self.query(x) @ x.transpose(-2, -1)
        scores = torch.quantize_per_tensor(scores, 0.01, 0, torch.qint32).dequantize()  # expect: THL010 confirmed
        return scores.softmax(dim=-1) @ x


def sampled_attention(q, k, v):  # verdict: hard_structural
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return torch.distributions.Normal(scores, 0.1).sample().softmax(dim=-1) @ v  # expect: THL010 confirmed


class CopiedKeysAttention(nn.Module):  # verdict: silent_corruption
    def __init__(self, dim=16):
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)

    def forward(self, x):
        key = copy.deepcopy(self.key)  # expect: THL010 confirmed
        return (self.query(x) @ key(x).transpose(-2, -1)).softmax(dim=-1) @ x


class RunningScaleAttention(nn.Module):  # verdict: silent_corruption
    def __init__(self, dim=16):
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.register_buffer("largest", torch.tensor(1.0))

    def forward(self, x):
        scores = self.query(x) @ x.transpose(-2, -1)
        self.largest.mul_(0.9).add_(0.1 * scores.max().item())  # expect: THL010 confirmed
        return (scores / self.largest).softmax(dim=-1) @ x


class ProjectedAttention(nn.Module):  # verdict: hard_structural
    def __init__(self, dim=16):
        super().__init__()
        self.to_out = nn.Sequential(nn.Identity(), nn.Linear(dim, dim))

    def forward(self, x):
        state = self.to_out[1].state_dict()  # expect: THL010 confirmed
        weight = state["weight"]
        return (x @ x.transpose(-2, -1)).softmax(dim=-1) @ x @ weight.T
