"""What may be kept: inputs, outputs, sizes, and what backward does not use."""

import torch


class InputsAndOutputs(torch.autograd.Function):  # verdict: safe
    @staticmethod
    def forward(ctx, q, k, v, scale=None):
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        p = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
        out = p @ v
        ctx.scale = scale  # near miss: a number
        ctx.shape = p.shape  # near miss: a shape
        ctx.save_for_backward(q, k, v, out, p)  # near miss: inputs, an output, and p, which backward does not use
        return out

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v, out, _ = ctx.saved_tensors
        p = (q @ k.transpose(-2, -1) * ctx.scale).softmax(dim=-1)
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (grad_out * out).sum(dim=-1, keepdim=True)) * ctx.scale
        return ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out, None


class UnusedMark(torch.autograd.Function):  # verdict: safe
    @staticmethod
    def forward(ctx, q, k, v):
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        best = scores.argmax(dim=-1)
        ctx.mark_non_differentiable(best)  # near miss: an index, which backward does not use
        ctx.save_for_backward(q, k, v)  # near miss: inputs
        return scores.softmax(dim=-1) @ v, best

    @staticmethod
    def backward(ctx, grad_out, _):
        q, k, v = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        p = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) * scale
        return ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out
