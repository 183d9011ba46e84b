"""A backward whose raw arithmetic stands in an autograd.Function that has a derivative of its own."""

import numpy as np
import torch


class MatMul(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.from_numpy(np.matmul(a.numpy(), b.numpy()))  # near miss: its backward is MatMul again

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return MatMul.apply(grad, b.transpose(-2, -1)), MatMul.apply(a.transpose(-2, -1), grad)


class LayeredAttention(torch.autograd.Function):  # verdict: safe
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v = ctx.saved_tensors
        scale = float(np.sqrt(1.0 / q.shape[-1]))
        p = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) * scale
        return MatMul.apply(ds, k), ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out
