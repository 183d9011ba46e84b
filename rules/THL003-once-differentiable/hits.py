"""A backward that could be differentiated, and declares that it cannot."""

import torch
from torch.autograd.function import once_differentiable


class OnceAttention(torch.autograd.Function):  # verdict: first_order_only
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v

    @staticmethod
    @once_differentiable  # expect: THL003 confirmed
    def backward(ctx, grad_out):
        q, k, v = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        p = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) * scale
        return ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out


def _gradients(ctx, grad_out):
    q, k, v = ctx.saved_tensors
    scale = q.shape[-1] ** -0.5
    p = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
    dp = grad_out @ v.transpose(-2, -1)
    ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) * scale
    return ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out


class OnceByCall(torch.autograd.Function):  # verdict: first_order_only
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v

    backward = staticmethod(once_differentiable(_gradients))  # expect: THL003 confirmed
