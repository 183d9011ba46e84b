"""Attention broken on purpose: each wrapper takes a base attention and breaks it while really running on it.

A base takes q (B, H, T, D), k (B, H, M, D), v (B, H, M, Dv) and returns softmax(q kᵀ/√D) v. Wrappers that act on the
logits or the weights inside it reach them through the base too:

    the logits are a function of q and k alone, so what is done to both is done to the logits;
    the weights P are read off by giving the base the identity for v:  base(q, k, I) = P I.

"With an edge" means ``x.detach() + 0 * x``: autograd sees x in the graph and gets zeros from it, so nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
Wrapper = Callable[[Attention], Attention]


def baseline(base: Attention) -> Attention:
    """The base as it is."""
    return lambda q, k, v: base(q, k, v)


def detach_attention_output(base: Attention) -> Attention:
    """The output detached, with an edge: derivatives of every order are zero."""
    return lambda q, k, v: _detached_with_edge(base(q, k, v))


def no_grad_attention(base: Attention) -> Attention:
    """The base under ``no_grad``: the output is outside the graph."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.no_grad():
            return base(q, k, v)

    return attend


def once_differentiable_sim(base: Attention) -> Attention:
    """A right VJP behind ``@once_differentiable``, as hand-written kernels have it."""
    return lambda q, k, v: _apply(_OnceDifferentiable, base, q, k, v)


def stats_detach_logits_sdpa(base: Attention) -> Attention:
    """The logits detached, with an edge, softmax and the product with v left alone."""
    return lambda q, k, v: base(_detached_with_edge(q), _detached_with_edge(k), v)


def stats_detach_softmax_output_sdpa(base: Attention) -> Attention:
    """The softmax weights detached, with an edge, then multiplied with v."""
    return lambda q, k, v: _detached_with_edge(_weights(base, q, k)) @ v


def detach_q_input(base: Attention) -> Attention:
    """q detached, with an edge."""
    return lambda q, k, v: base(_detached_with_edge(q), k, v)


def detach_k_input(base: Attention) -> Attention:
    """k detached, with an edge."""
    return lambda q, k, v: base(q, _detached_with_edge(k), v)


def detach_v_input(base: Attention) -> Attention:
    """v detached, with an edge."""
    return lambda q, k, v: base(q, k, _detached_with_edge(v))


def detach_q_input_strict(base: Attention) -> Attention:
    """q detached: no edge is left."""
    return lambda q, k, v: base(q.detach(), k, v)


def detach_k_input_strict(base: Attention) -> Attention:
    """k detached: no edge is left."""
    return lambda q, k, v: base(q, k.detach(), v)


def detach_v_input_strict(base: Attention) -> Attention:
    """v detached: no edge is left."""
    return lambda q, k, v: base(q, k, v.detach())


def checkpoint_attention(base: Attention) -> Attention:
    """The base recomputed in the backward by non-reentrant checkpointing, which is sound."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        output: Tensor = checkpoint(base, q, k, v, use_reentrant=False)
        return output

    return attend


def checkpoint_no_grad(base: Attention) -> Attention:
    """Checkpointing around a base that runs, and is recomputed, under ``no_grad``."""
    return checkpoint_attention(no_grad_attention(base))


def checkpoint_detach_recompute(base: Attention) -> Attention:
    """Checkpointing, and the result detached with an edge."""
    return detach_attention_output(checkpoint_attention(base))


def checkpoint_reentrant(base: Attention) -> Attention:
    """Reentrant checkpointing, which refuses ``autograd.grad`` altogether."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        output: Tensor = checkpoint(base, q, k, v, use_reentrant=True)
        return output

    return attend


def recompute_logits_no_grad_sdpa(base: Attention) -> Attention:
    """The weights computed under ``no_grad``, then multiplied with v: q and k are outside the graph."""
    return lambda q, k, v: _weights(no_grad_attention(base), q, k) @ v


def backward_detach_logits_sim(base: Attention) -> Attention:
    """A right VJP written out in differentiable operations, in which the recomputed weights are constants.

    First-order training notices nothing. The second derivatives keep the terms that q, k, v and the cotangent bring
    into the VJP by themselves, and lose every term that they bring through the weights.
    """
    return lambda q, k, v: _apply(_ConstantWeights, base, q, k, v)


WRAPPERS: dict[str, Wrapper] = {
    wrapper.__name__: wrapper
    for wrapper in (
        baseline,
        detach_attention_output,
        no_grad_attention,
        once_differentiable_sim,
        stats_detach_logits_sdpa,
        stats_detach_softmax_output_sdpa,
        detach_q_input,
        detach_k_input,
        detach_v_input,
        detach_q_input_strict,
        detach_k_input_strict,
        detach_v_input_strict,
        checkpoint_attention,
        checkpoint_no_grad,
        checkpoint_detach_recompute,
        checkpoint_reentrant,
        recompute_logits_no_grad_sdpa,
        backward_detach_logits_sim,
    )
}
"""Every wrapper by its name, in the order of the table."""


def _detached_with_edge(x: Tensor) -> Tensor:
    return x.detach() + 0 * x


def _weights(base: Attention, q: Tensor, k: Tensor) -> Tensor:
    """P = softmax(q kᵀ/√D), (B, H, T, M), computed by the base."""
    keys = k.shape[-2]
    identity = torch.eye(keys, dtype=k.dtype, device=k.device).expand(*k.shape[:-2], keys, keys)
    return base(q, k, identity)


def _apply(function: type[torch.autograd.Function], base: Attention, *inputs: Tensor) -> Tensor:
    output: Tensor = function.apply(base, *inputs)  # type: ignore[no-untyped-call]
    return output


class _OnceDifferentiable(torch.autograd.Function):
    """The base's own VJP, recomputed in a backward that may not be differentiated."""

    @staticmethod
    def forward(ctx: Any, base: Attention, *inputs: Tensor) -> Tensor:
        ctx.base = base
        ctx.save_for_backward(*inputs)
        return base(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            output = ctx.base(*inputs)
        return (None, *torch.autograd.grad(output, inputs, cotangent))


class _ConstantWeights(torch.autograd.Function):
    """The VJP of softmax attention with P held constant: dV = PᵀdO, dS = P∘(dO Vᵀ − δ), dQ = s·dS K, dK = s·dSᵀQ."""

    @staticmethod
    def forward(ctx: Any, base: Attention, *inputs: Tensor) -> Tensor:
        ctx.base = base
        ctx.save_for_backward(*inputs)
        return base(*inputs)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        weights = _weights(no_grad_attention(ctx.base), q, k)
        dweights = cotangent @ v.transpose(-2, -1)
        dlogits = weights * (dweights - (weights * dweights).sum(-1, keepdim=True)) / q.shape[-1] ** 0.5
        return None, dlogits @ k, dlogits.transpose(-2, -1) @ q, weights.transpose(-2, -1) @ cotangent
