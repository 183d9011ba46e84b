"""Tensors kept for backward that are neither inputs nor outputs."""

import torch


class SavedWeights(torch.autograd.Function):  # verdict: silent_corruption
    @staticmethod
    def forward(ctx, q, k, v):
        p = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
        ctx.save_for_backward(q, k, v, p)  # expect: THL005 confirmed
        return p @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v, p = ctx.saved_tensors
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) / q.shape[-1] ** 0.5
        return ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out


class WeightsOnContext(torch.autograd.Function):  # verdict: silent_corruption
    @staticmethod
    def forward(ctx, q, k, v):
        p = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
        ctx.p = p  # expect: THL005 confirmed
        ctx.save_for_backward(q, k, v)
        return p @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v = ctx.saved_tensors
        dp = grad_out @ v.transpose(-2, -1)
        ds = ctx.p * (dp - (dp * ctx.p).sum(dim=-1, keepdim=True)) / q.shape[-1] ** 0.5
        return ds @ k, ds.transpose(-2, -1) @ q, ctx.p.transpose(-2, -1) @ grad_out


class SavedCopy(torch.autograd.Function):  # verdict: silent_corruption
    @staticmethod
    def forward(ctx, q, k, v):
        scaled = q.clone()
        ctx.save_for_backward(scaled, k, v)  # expect: THL005 confirmed
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        p = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) * scale
        return ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out


class MarkedOutput(torch.autograd.Function):  # verdict: silent_corruption
    @staticmethod
    def forward(ctx, q, k, v):
        p = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
        ctx.mark_non_differentiable(p)  # expect: THL005 confirmed
        ctx.save_for_backward(q, k, v, p)  # expect: THL005 confirmed
        return p @ v, p

    @staticmethod
    def backward(ctx, grad_out, _):
        q, k, v, p = ctx.saved_tensors
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) / q.shape[-1] ** 0.5
        return ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out
