"""A backward that reads the attention weights kept by forward: its second derivative takes them for constants."""

import math

import torch


class KeptAttention(torch.autograd.Function):
    """Softmax attention that keeps its weights for the backward."""

    @staticmethod
    def forward(ctx, q, k, v):
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1)
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    def backward(ctx, grad_output):
        q, k, v, weights = ctx.saved_tensors
        scale = 1 / math.sqrt(q.shape[-1])
        grad_weights = grad_output @ v.transpose(-2, -1)
        grad_logits = weights * (grad_weights - (grad_weights * weights).sum(-1, keepdim=True))
        return (
            grad_logits @ k * scale,
            grad_logits.transpose(-2, -1) @ q * scale,
            weights.transpose(-2, -1) @ grad_output,
        )


def kept_attention(q, k, v):
    """Softmax attention of q (B,H,T,D), k (B,H,M,D), v (B,H,M,D)."""
    return KeptAttention.apply(q, k, v)
