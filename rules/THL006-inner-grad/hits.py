"""Backwards that recompute the forward and take a derivative whose graph is not kept."""

import torch
from torch import nn


def softmax_attention(q, k, v):
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


class RecomputedAttention(torch.autograd.Function):  # verdict: silent_collapse
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return softmax_attention(q, k, v)

    @staticmethod
    def backward(ctx, grad_out):
        with torch.enable_grad():  # expect: THL001 cleared
            q, k, v = (x.detach().requires_grad_() for x in ctx.saved_tensors)  # expect: THL006 confirmed
            out = softmax_attention(q, k, v)
        return torch.autograd.grad(out, (q, k, v), grad_out)  # expect: THL006 confirmed


class CheckpointedAttention(torch.autograd.Function):  # verdict: silent_collapse
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return softmax_attention(q, k, v)

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v = (x.detach().requires_grad_() for x in ctx.saved_tensors)  # expect: THL006 unconfirmed
        with torch.enable_grad():  # expect: THL001 unconfirmed
            out = softmax_attention(q, k, v)
        torch.autograd.backward(out, grad_out)  # expect: THL006 confirmed
        return q.grad, k.grad, v.grad


def slope(energy, x):
    x = x.detach().requires_grad_()  # expect: THL006 confirmed
    energy(x).backward()  # expect: THL006 confirmed
    return x.grad  # expect: THL006 confirmed


class EnergyAttention(nn.Module):  # verdict: safe
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x):
        return -(self.query(x) @ self.key(x).transpose(-2, -1)).logsumexp(dim=-1).sum()


class Descent(nn.Module):  # verdict: silent_collapse
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.attention = EnergyAttention(dim)

    def forward(self, x):
        return x - 0.1 * slope(self.attention, x)
