"""Attention of every failure class, each with the verdict that its construction implies."""

from __future__ import annotations

import math

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from theria.verdicts import Verdict


def plain(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v


def causal(q, k, v):
    logits = q @ k.transpose(-1, -2)
    hidden = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
    return torch.softmax(logits.masked_fill(hidden, -math.inf), -1) @ v


def detached_row_max(q, k, v):
    logits = q @ k.transpose(-1, -2)
    weights = (logits - logits.amax(-1, keepdim=True).detach()).exp()
    return weights @ v / weights.sum(-1, keepdim=True)


def detached_row_max_of_sigmoid(q, k, v):
    logits = q @ k.transpose(-1, -2)
    return torch.sigmoid(logits - logits.amax(-1, keepdim=True).detach()) @ v


def detached_row_max_with_a_sink(q, k, v):
    logits = q @ k.transpose(-1, -2)
    weights = (logits - logits.amax(-1, keepdim=True).detach()).exp()
    return weights @ v / (1 + weights.sum(-1, keepdim=True))


def detached_normaliser(q, k, v):
    weights = (q @ k.transpose(-1, -2)).exp()
    return weights @ v / weights.sum(-1, keepdim=True).detach()


def detached_output(q, k, v):
    return plain(q, k, v).detach()


def detached_output_with_an_edge(q, k, v):
    out = plain(q, k, v)
    return out.detach() + 0 * out


def detached_logits(q, k, v):
    return torch.softmax((q @ k.transpose(-1, -2)).detach() / math.sqrt(q.shape[-1]), -1) @ v


def detached_query_with_an_edge(q, k, v):
    return plain(q.detach() + 0 * q, k, v)


def straight_through(q, k, v):
    """The first order of one function with the value of another: gradgradcheck alone would pass it."""
    soft = plain(q, k, v)
    return soft + (soft.round(decimals=1) - soft).detach()


def linear(q, k, v):
    q, k = torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1
    return q @ (k.transpose(-1, -2) @ v) / (q @ k.sum(-2).unsqueeze(-1))


def sigmoid(q, k, v):
    return torch.sigmoid(q @ k.transpose(-1, -2)) @ v


def cosine(q, k, v):
    unit = torch.nn.functional.normalize
    return torch.softmax(8 * unit(q, dim=-1) @ unit(k, dim=-1).transpose(-1, -2), -1) @ v


def windowed(q, k, v):
    logits = q @ k.transpose(-1, -2)
    row, column = torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])
    return torch.softmax(logits.masked_fill((row - column).abs() > 1, -math.inf), -1) @ v


def float32_inside(q, k, v):
    return plain(q.float(), k.float(), v.float()).to(q.dtype)


def linear_float32_inside(q, k, v):
    return linear(q.float(), k.float(), v.float()).to(q.dtype)


def checkpointed(q, k, v):
    return checkpoint(plain, q, k, v, use_reentrant=False)


def checkpointed_reentrant(q, k, v):
    return checkpoint(plain, q, k, v, use_reentrant=True)


def fused(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def vjp(q, k, v, weights, grad):
    scale = 1 / math.sqrt(q.shape[-1])
    grad_weights = grad @ v.transpose(-1, -2)
    grad_logits = weights * (grad_weights - (grad_weights * weights).sum(-1, keepdim=True))
    return grad_logits @ k * scale, grad_logits.transpose(-1, -2) @ q * scale, weights.transpose(-1, -2) @ grad


def weights_of(q, k):
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)


class HandWritten(torch.autograd.Function):
    """A backward of differentiable operations on saved inputs."""

    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return weights_of(q, k) @ v

    @staticmethod
    def backward(ctx, grad):
        q, k, v = ctx.saved_tensors
        return vjp(q, k, v, weights_of(q, k), grad)


class Opaque(HandWritten):
    """A backward that autograd does not see, like a raw kernel launch."""

    @staticmethod
    def backward(ctx, grad):
        with torch.no_grad():
            return HandWritten.backward(ctx, grad)


class OnceDifferentiable(HandWritten):
    backward = staticmethod(once_differentiable(HandWritten.backward))


class SavedWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        weights = weights_of(q, k)
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    def backward(ctx, grad):
        q, k, v, weights = ctx.saved_tensors
        return vjp(q, k, v, weights, grad)


class SavedCopyOfStrided(torch.autograd.Function):
    """Saves a copy of inputs that are not contiguous: wrong for those alone."""

    @staticmethod
    def forward(ctx, q, k, v):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        ctx.save_for_backward(q, k, v)
        return weights_of(q, k) @ v

    @staticmethod
    def backward(ctx, grad):
        q, k, v = ctx.saved_tensors
        return vjp(q, k, v, weights_of(q, k), grad)


class ScaledCurvature(torch.autograd.Function):
    """A gradient that is right and a second derivative that is ten per cent off in one term."""

    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return weights_of(q, k) @ v

    @staticmethod
    def backward(ctx, grad):
        q, k, v = ctx.saved_tensors
        stale = 0.9 * v + 0.1 * v.detach()
        return vjp(q, k, stale, weights_of(q, k), grad)


class SavedCopyUnderAutocast(HandWritten):
    """Saves copies in lower precision, which are made under autocast alone."""

    @staticmethod
    def forward(ctx, q, k, v):
        if torch.is_autocast_enabled("cpu"):
            q, k, v = q.bfloat16(), k.bfloat16(), v.bfloat16()
        ctx.save_for_backward(q, k, v)
        return weights_of(q, k) @ v

    @staticmethod
    def backward(ctx, grad):
        q, k, v = ctx.saved_tensors
        return vjp(q, k, v, weights_of(q, k), grad.to(q.dtype))


class OpaqueUnlessAllNeedGradients(HandWritten):
    """Takes a path without derivatives when an input is frozen."""

    @staticmethod
    def backward(ctx, grad):
        with torch.set_grad_enabled(all(ctx.needs_input_grad)):
            return HandWritten.backward(ctx, grad)


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        return plain(q, k, v)


SAFE, HARD, FIRST = Verdict.SAFE, Verdict.HARD_STRUCTURAL, Verdict.FIRST_ORDER_ONLY
COLLAPSE, CORRUPTION = Verdict.SILENT_COLLAPSE, Verdict.SILENT_CORRUPTION

VERDICTS = {
    plain: SAFE,
    causal: SAFE,
    detached_row_max: SAFE,
    detached_row_max_of_sigmoid: CORRUPTION,
    detached_row_max_with_a_sink: CORRUPTION,
    detached_normaliser: CORRUPTION,
    detached_output: HARD,
    detached_output_with_an_edge: COLLAPSE,
    detached_logits: HARD,
    detached_query_with_an_edge: CORRUPTION,
    straight_through: CORRUPTION,
    linear: SAFE,
    sigmoid: SAFE,
    cosine: SAFE,
    windowed: SAFE,
    float32_inside: SAFE,
    linear_float32_inside: SAFE,
    checkpointed: SAFE,
    checkpointed_reentrant: FIRST,
    fused: FIRST,
    HandWritten.apply: SAFE,
    Opaque.apply: COLLAPSE,
    OnceDifferentiable.apply: FIRST,
    SavedWeights.apply: CORRUPTION,
    SavedCopyOfStrided.apply: COLLAPSE,
    ScaledCurvature.apply: CORRUPTION,
    SavedCopyUnderAutocast.apply: COLLAPSE,
    OpaqueUnlessAllNeedGradients.apply: CORRUPTION,
    NoBackward.apply: HARD,
}
