"""A backward that changes what it computed itself."""

import torch


class ScaledCopy(torch.autograd.Function):  # verdict: safe
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return 0.5 * (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v = ctx.saved_tensors
        grad_out = grad_out * 0.5  # near miss: a new tensor
        scale = q.shape[-1] ** -0.5
        p = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True))
        ds = ds * scale
        dv = p.transpose(-2, -1) @ grad_out
        return ds @ k, ds.transpose(-2, -1) @ q, dv


class Copied(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad_out):
        return grad_out.view_as(grad_out)  # near miss: the incoming gradient


class Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 0.5

    @staticmethod
    def backward(ctx, grad_out):
        return grad_out * 0.5  # near miss: the forward does so too


def copied_attention(q, k, v):  # verdict: safe
    return (Copied.apply(q) @ Halved.apply(k).transpose(-2, -1)).softmax(dim=-1) @ v
