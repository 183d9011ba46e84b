"""Attention that is no plain function: a callable object, a static method, a lambda, an assigned forward."""

import torch
from torch import nn


class Scaled:  # verdict: hard_structural
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, q, k, v):
        logits = (q @ k.transpose(-2, -1) * self.scale).detach()  # expect: THL002 confirmed
        return logits.softmax(dim=-1) @ v


class Kernels:
    @staticmethod
    def detached(q, k, v):  # verdict: hard_structural
        out = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
        return out.detach()  # expect: THL002 confirmed

    @classmethod
    def whole(cls, q, k, v):  # verdict: safe
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


detached_value = lambda q, k, v: (  # verdict: hard_structural
    (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v.detach()  # expect: THL002 confirmed
)


def _forward(self, x):
    q, k, v = self.project(x).chunk(3, dim=-1)
    return torch.sigmoid(q @ k.transpose(-2, -1)).detach() @ v  # expect: THL002 confirmed


class Mixer(nn.Module):  # verdict: silent_collapse
    def __init__(self, dim):
        super().__init__()
        self.project = nn.Linear(dim, 3 * dim)

    forward = _forward


class Meter:
    def __call__(self, loss):
        return loss.detach()  # near miss: an object that takes no q, k and v


class Losses:
    @staticmethod
    def regression(x, y):
        return (x - y.detach()).square()  # near miss: a static method that is no attention


stop = lambda x: x.detach()  # near miss: no attention calls it


class Statistics(nn.Module):
    def forward(self, x):
        q, k, v = x.quantile(0.25), x.quantile(0.5), x.quantile(0.75)
        return (q + k + v).detach()  # near miss: q, k and v that nothing multiplies
