"""Tensors set on ctx as they are computed, and several at once."""

import torch


class ComputedOnContext(torch.autograd.Function):  # verdict: silent_corruption
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.p = torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, dim=-1)  # expect: THL005 confirmed
        ctx.rows = max(q.shape[-2], k.shape[-2])  # near miss: a number
        ctx.save_for_backward(q, k, v)
        return ctx.p @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v = ctx.saved_tensors
        dp = grad_out @ v.transpose(-2, -1)
        ds = ctx.p * (dp - (dp * ctx.p).sum(dim=-1, keepdim=True)) / q.shape[-1] ** 0.5
        return ds @ k, ds.transpose(-2, -1) @ q, ctx.p.transpose(-2, -1) @ grad_out


class TupleOnContext(torch.autograd.Function):  # verdict: silent_corruption
    @staticmethod
    def forward(ctx, q, k, v):
        p = torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, dim=-1)
        ctx.kept = (q, k, v, p)  # expect: THL005 confirmed
        ctx.sizes = (q.shape[-1], v.shape[-1])  # near miss: sizes
        return p @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v, p = ctx.kept
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) / q.shape[-1] ** 0.5
        return ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out
