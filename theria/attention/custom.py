"""The custom backend: the analytic VJP, JVP and double backward of attention, in eager PyTorch.

Formulas: with S = scale·QKᵀ + mask, P = softmax(S), O = PV, a cotangent dO and directions (A, B, C, E) of
(Q, K, V, mask),

    dP = dO Vᵀ      δ = rowsum(dP∘P)      dS = P∘(dP − δ)
    Ṡ = scale·(A Kᵀ + Q Bᵀ) + E      t = rowsum(P∘Ṡ)      Ṗ = P∘(Ṡ − t)      Ȯ = Ṗ V + P C
    G = dP∘(Ṡ − t) − δ·Ṡ + dO Cᵀ      X = P∘(G − rowsum(P∘G))

and X is the gradient of ⟨dO, Ȯ⟩ for S. Dropout multiplies the weights that meet V by Z, 1 / (1 − p) or 0, so that
O = (P∘Z) V: then dP, dO Cᵀ, and the P and Ṗ that meet V, C or dO, are multiplied by Z.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from theria.attention.canonical_problem import AttentionSettings
from theria.attention.dropout import kept_weights
from theria.attention.dtypes import accumulator
from theria.attention.eager import masked_logits, repeat_heads, sum_heads
from theria.attention.engine_protocol import Directions, Gradients, Saved
from theria.attention.execution_record import record


@dataclass(frozen=True, slots=True)
class _Wide:
    """q, k, v in the accumulator dtype with heads repeated, the weights P (B, H, T, M), and Z that drops some."""

    q: Tensor
    k: Tensor
    v: Tensor
    weights: Tensor
    kept: Tensor | float


class CustomEngine:
    """Analytic derivatives with (T × M) tensors in memory; any device, any head dimension."""

    name = "custom"

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, settings: AttentionSettings
    ) -> tuple[Tensor, Tensor]:
        """See ``Engine``."""
        record(self.name)
        wide = accumulator(q.dtype)
        logits = masked_logits(q.to(wide), repeat_heads(k.to(wide), q.shape[1]), mask, settings)
        lse = torch.logsumexp(logits, dim=-1)
        weights = _weights(logits, lse)
        out = (weights * kept_weights(weights.shape, settings, wide)) @ repeat_heads(v.to(wide), q.shape[1])
        return out.to(q.dtype), lse

    def vjp(self, saved: Saved, dout: Tensor, settings: AttentionSettings, *, mask_gradient: bool) -> Gradients:
        """See ``Engine``."""
        wide = _widen(saved, settings)
        dout = dout.to(wide.q.dtype)
        dlogits = _logit_gradient(wide.weights, wide.kept * (dout @ wide.v.mT))
        return _gradients(
            saved,
            settings.scale * (dlogits @ wide.k),
            settings.scale * (dlogits.mT @ wide.q),
            (wide.kept * wide.weights).mT @ dout,
            dlogits if mask_gradient else None,
        )

    def jvp(self, saved: Saved, directions: Directions, settings: AttentionSettings) -> Tensor:
        """See ``Engine``."""
        wide = _widen(saved, settings)
        a, b, c = _widen_directions(wide, directions)
        weights_dot = _softmax_jvp(wide.weights, _logits_dot(wide, a, b, directions.mask, settings))
        return _out_dot(wide, weights_dot, c).to(saved.q.dtype)

    def double_backward(
        self, saved: Saved, dout: Tensor, directions: Directions, settings: AttentionSettings, *, mask_gradient: bool
    ) -> tuple[Gradients, Tensor]:
        """See ``Engine``."""
        wide = _widen(saved, settings)
        a, b, c = _widen_directions(wide, directions)
        dout = dout.to(wide.q.dtype)
        weights = wide.weights
        logits_dot = _logits_dot(wide, a, b, directions.mask, settings)
        weights_dot = _softmax_jvp(weights, logits_dot)
        dweights = wide.kept * (dout @ wide.v.mT)
        delta = _rowsum(weights * dweights)
        g = dweights * (logits_dot - _rowsum(weights * logits_dot)) - delta * logits_dot + wide.kept * (dout @ c.mT)
        x = _logit_gradient(weights, g)
        dlogits = weights * (dweights - delta)
        gradients = _gradients(
            saved,
            settings.scale * (x @ wide.k + dlogits @ b),
            settings.scale * (x.mT @ wide.q + dlogits.mT @ a),
            (wide.kept * weights_dot).mT @ dout,
            x if mask_gradient else None,
        )
        return gradients, _out_dot(wide, weights_dot, c).to(saved.q.dtype)


def _out_dot(wide: _Wide, weights_dot: Tensor, c: Tensor) -> Tensor:
    return (wide.kept * weights_dot) @ wide.v + (wide.kept * wide.weights) @ c


def _weights(logits: Tensor, lse: Tensor) -> Tensor:
    """exp(logits − lse); 0 where the logit is −∞, also in rows whose lse is −∞, where the difference is NaN."""
    return torch.exp(logits - lse.unsqueeze(-1)).masked_fill(logits == -torch.inf, 0.0)


def _widen(saved: Saved, settings: AttentionSettings) -> _Wide:
    dtype, heads = saved.lse.dtype, saved.q.shape[1]
    q, k, v = saved.q.to(dtype), repeat_heads(saved.k.to(dtype), heads), repeat_heads(saved.v.to(dtype), heads)
    weights = _weights(masked_logits(q, k, saved.mask, settings), saved.lse)
    return _Wide(q, k, v, weights, kept_weights(weights.shape, settings, dtype))


def _widen_directions(wide: _Wide, directions: Directions) -> tuple[Tensor, Tensor, Tensor]:
    dtype, heads = wide.q.dtype, wide.q.shape[1]
    k, v = (repeat_heads(x.to(dtype), heads) for x in (directions.k, directions.v))
    return directions.q.to(dtype), k, v


def _rowsum(x: Tensor) -> Tensor:
    return x.sum(dim=-1, keepdim=True)


def _logits_dot(wide: _Wide, a: Tensor, b: Tensor, e: Tensor | None, settings: AttentionSettings) -> Tensor:
    logits_dot = settings.scale * (a @ wide.k.mT + wide.q @ b.mT)
    return logits_dot if e is None else logits_dot + e


def _softmax_jvp(weights: Tensor, logits_dot: Tensor) -> Tensor:
    return weights * (logits_dot - _rowsum(weights * logits_dot))


def _logit_gradient(weights: Tensor, dweights: Tensor) -> Tensor:
    """The gradient for the logits, given that for the weights: the Jacobian of softmax is symmetric."""
    return _softmax_jvp(weights, dweights)


def _gradients(saved: Saved, dq: Tensor, dk: Tensor, dv: Tensor, dlogits: Tensor | None) -> Gradients:
    """Back to the shapes and dtypes of the inputs."""
    key_heads, dtype = saved.k.shape[1], saved.q.dtype
    dmask = None
    if dlogits is not None and saved.mask is not None:
        dmask = dlogits.sum_to_size(saved.mask.shape).to(saved.mask.dtype)
    return dq.to(dtype), sum_heads(dk, key_heads).to(dtype), sum_heads(dv, key_heads).to(dtype), dmask
