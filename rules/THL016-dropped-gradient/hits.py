"""Inputs that carry a gradient, and backwards that give none."""

import torch


class BiasedAttention(torch.autograd.Function):  # verdict: hard_structural
    @staticmethod
    def forward(ctx, q, k, v, bias):
        p = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias).softmax(dim=-1)
        ctx.save_for_backward(q, k, v, bias)
        return p @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v, bias = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        p = (q @ k.transpose(-2, -1) * scale + bias).softmax(dim=-1)
        dp = grad_out @ v.transpose(-2, -1)
        ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True))
        return (
            ds @ k * scale,
            ds.transpose(-2, -1) @ q * scale,
            p.transpose(-2, -1) @ grad_out,
            None,  # expect: THL016 confirmed
        )


class Tempered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, temperature):
        ctx.save_for_backward(scores, temperature)
        return scores * temperature

    @staticmethod
    def backward(ctx, grad):
        scores, temperature = ctx.saved_tensors
        return grad * temperature, None  # expect: THL016 confirmed


def tempered_attention(q, k, v):  # verdict: silent_corruption
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    weights = Tempered.apply(scores, scores.pow(2).mean().add(1.0).rsqrt()).softmax(dim=-1)
    return weights @ v
