"""A backward that can be differentiated, and the decorator where there is no attention."""

import torch
from torch.autograd.function import once_differentiable


class TwiceAttention(torch.autograd.Function):  # verdict: safe
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        p = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) * scale
        return ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    @once_differentiable  # near miss: rounding is no attention, and none calls it here
    def backward(ctx, grad_out):
        return grad_out


def _straight(ctx, grad_out):
    return grad_out


class Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.floor()

    backward = staticmethod(once_differentiable(_straight))  # near miss: nor is this
