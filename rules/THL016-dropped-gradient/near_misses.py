"""Inputs that have no gradient: numbers, masks, what only chooses, and what backward refuses to differentiate."""

import torch


class ScaledAttention(torch.autograd.Function):  # verdict: safe
    @staticmethod
    def forward(ctx, q, k, v, scale=0.5, causal=False):
        scores = q @ k.transpose(-2, -1) * scale
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
        ctx.scale, ctx.causal = scale, causal
        ctx.save_for_backward(q, k, v)
        return scores.softmax(dim=-1) @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v = ctx.saved_tensors
        scores = q @ k.transpose(-2, -1) * ctx.scale
        if ctx.causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
        p = scores.softmax(dim=-1)
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) * ctx.scale
        dq, dk, dv = ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out
        return dq, dk, dv, None, None  # near miss: a number and a switch


class Permuted(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, order):
        ctx.save_for_backward(order)
        return x.index_select(-2, order)

    @staticmethod
    def backward(ctx, grad):
        (order,) = ctx.saved_tensors
        return grad.index_select(-2, order.argsort()), None  # near miss: an order


def sorted_attention(q, k, v):  # verdict: safe
    order = k.norm(dim=-1).flatten(0, -2)[0].argsort()
    k, v = Permuted.apply(k, order), Permuted.apply(v, order)
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


class BiasWhereWanted(torch.autograd.Function):  # verdict: safe
    @staticmethod
    def forward(ctx, q, k, v, bias):
        ctx.save_for_backward(q, k, v, bias)
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias).softmax(dim=-1) @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v, bias = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        p = (q @ k.transpose(-2, -1) * scale + bias).softmax(dim=-1)
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True))
        dbias = None
        if ctx.needs_input_grad[3]:
            dbias = ds  # near miss: the gradient where one is wanted
        return ds @ k * scale, ds.transpose(-2, -1) @ q * scale, p.transpose(-2, -1) @ grad_out, dbias
