"""A backward that scales the gradient it is given where it lies."""

import torch


class ScaledInPlace(torch.autograd.Function):  # verdict: safe
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return 0.5 * (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v = ctx.saved_tensors
        grad_out.mul_(0.5)  # expect: THL015 confirmed
        scale = q.shape[-1] ** -0.5
        p = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) * scale
        return ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out


def residual_attention(q, k, v):  # verdict: silent_corruption
    return v + ScaledInPlace.apply(q, k, v)


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_out):
        return -ctx.weight * grad_out, None  # expect: THL015 confirmed


def reversed_attention(q, k, v):  # verdict: silent_corruption
    return (Reversed.apply(q, 0.5) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
