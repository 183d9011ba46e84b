"""Attention that switches gradient recording off on its way to the output."""

import torch
from torch import no_grad as quiet


@torch.no_grad()  # expect: THL001 confirmed
def attention_off_the_graph(q, k, v):  # verdict: hard_structural
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return scores.softmax(dim=-1) @ v


def attention_with_constant_weights(q, k, v):  # verdict: hard_structural
    with quiet():  # expect: THL001 confirmed
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return weights @ v


class AttentionFunction(torch.autograd.Function):  # verdict: silent_collapse
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        with torch.no_grad():  # expect: THL001 confirmed
            p = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
            dp = grad_out @ v.transpose(-2, -1)
            ds = p * (dp - (dp * p).sum(dim=-1, keepdim=True)) * scale
            return ds @ k, ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ grad_out


def attention_in_a_given_mode(q, k, v, recording=False):  # verdict: hard_structural
    with torch.set_grad_enabled(recording):  # expect: THL001 confirmed
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return weights @ v


def attention_written_into_a_buffer(q, k, v):  # verdict: hard_structural
    weights = q.new_empty(*q.shape[:-1], k.shape[-2])
    with torch.no_grad():  # expect: THL001 confirmed
        torch.matmul(q, k.transpose(-2, -1), out=weights)
    return weights.softmax(dim=-1) @ v
