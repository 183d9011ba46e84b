"""The custom backend: the analytic VJP, JVP and double backward of attention, in eager PyTorch.

Formulas: with S = scale·QKᵀ + mask, P = softmax(S), O = PV, a cotangent dO and directions (A, B, C, E) of
(Q, K, V, mask),

    dP = dO Vᵀ      δ = rowsum(dP∘P)      dS = P∘(dP − δ)
    Ṡ = scale·(A Kᵀ + Q Bᵀ) + E      t = rowsum(P∘Ṡ)      Ṗ = P∘(Ṡ − t)      Ȯ = Ṗ V + P C
    G = dP∘(Ṡ − t) − δ·Ṡ + dO Cᵀ      X = P∘(G − rowsum(P∘G))

and X is the gradient of ⟨dO, Ȯ⟩ for S. Dropout multiplies the weights that meet V by Z, 1 / (1 − p) or 0, so that
O = (P∘Z) V: then dP, dO Cᵀ, and the P and Ṗ that meet V, C or dO, are multiplied by Z.

A cap c makes S = c·h + mask of the scores U = scale·QKᵀ, with h = tanh(U / c): then Ṡ = (1 − h²)∘U̇ + E, and Q and K
get (1 − h²)∘dS where they get dS without a cap, and (1 − h²)∘(X − 2·h∘dS∘U̇ / c) for X; the mask gets dS and X.

The log-sum-exp l of the rows of S has l̇ = t. A cotangent dl of it makes δ − dl of δ in dS and in G.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from theria.attention.canonical_problem import AttentionSettings
from theria.attention.dropout import kept_weights
from theria.attention.dtypes import accumulator
from theria.attention.eager import mask_logits, masked_logits, repeat_heads, sum_heads
from theria.attention.engine_protocol import Cotangents, Directions, Gradients, Saved
from theria.attention.execution_record import record


@dataclass(frozen=True, slots=True)
class _Wide:
    """q, k, v in the accumulator dtype with heads repeated, the weights P (B, H, T, M), Z that drops some, and h."""

    q: Tensor
    k: Tensor
    v: Tensor
    weights: Tensor
    kept: Tensor | float
    capped: Tensor | None


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

    def vjp(
        self, saved: Saved, cotangents: Cotangents, settings: AttentionSettings, *, mask_gradient: bool
    ) -> Gradients:
        """See ``Engine``."""
        wide = _widen(saved, settings)
        dout = cotangents.out.to(wide.q.dtype)
        dweights = wide.kept * (dout @ wide.v.mT)
        dlogits = wide.weights * (dweights - _delta(wide, dweights, cotangents))
        dscores = dlogits if wide.capped is None else _slope(wide.capped) * dlogits
        return _gradients(
            saved,
            settings.scale * (dscores @ wide.k),
            settings.scale * (dscores.mT @ wide.q),
            (wide.kept * wide.weights).mT @ dout,
            dlogits if mask_gradient else None,
        )

    def jvp(self, saved: Saved, directions: Directions, settings: AttentionSettings) -> tuple[Tensor, Tensor]:
        """See ``Engine``."""
        wide = _widen(saved, settings)
        a, b, c = _widen_directions(wide, directions)
        logits_dot = _logits_dot(wide, _scores_dot(wide, a, b, settings), directions.mask)
        t = _rowsum(wide.weights * logits_dot)
        return _out_dot(wide, wide.weights * (logits_dot - t), c).to(saved.q.dtype), t.squeeze(-1)

    def double_backward(
        self,
        saved: Saved,
        cotangents: Cotangents,
        directions: Directions,
        settings: AttentionSettings,
        *,
        mask_gradient: bool,
    ) -> tuple[Gradients, Tensor, Tensor]:
        """See ``Engine``."""
        wide = _widen(saved, settings)
        a, b, c = _widen_directions(wide, directions)
        dout = cotangents.out.to(wide.q.dtype)
        weights = wide.weights
        scores_dot = _scores_dot(wide, a, b, settings)
        logits_dot = _logits_dot(wide, scores_dot, directions.mask)
        t = _rowsum(weights * logits_dot)
        weights_dot = weights * (logits_dot - t)
        dweights = wide.kept * (dout @ wide.v.mT)
        delta = _delta(wide, dweights, cotangents)
        g = dweights * (logits_dot - t) - delta * logits_dot + wide.kept * (dout @ c.mT)
        x = weights * (g - _rowsum(weights * g))
        dlogits = weights * (dweights - delta)
        of_mask = x if mask_gradient else None
        if wide.capped is not None and settings.softcap is not None:
            slope = _slope(wide.capped)
            x = slope * (x - 2 / settings.softcap * wide.capped * dlogits * scores_dot)
            dlogits = slope * dlogits
        gradients = _gradients(
            saved,
            settings.scale * (x @ wide.k + dlogits @ b),
            settings.scale * (x.mT @ wide.q + dlogits.mT @ a),
            (wide.kept * weights_dot).mT @ dout,
            of_mask,
        )
        return gradients, _out_dot(wide, weights_dot, c).to(saved.q.dtype), t.squeeze(-1)


def _out_dot(wide: _Wide, weights_dot: Tensor, c: Tensor) -> Tensor:
    return (wide.kept * weights_dot) @ wide.v + (wide.kept * wide.weights) @ c


def _weights(logits: Tensor, lse: Tensor) -> Tensor:
    """exp(logits − lse); 0 where the logit is −∞, also in rows whose lse is −∞, where the difference is NaN."""
    return torch.exp(logits - lse.unsqueeze(-1)).masked_fill(logits == -torch.inf, 0.0)


def _widen(saved: Saved, settings: AttentionSettings) -> _Wide:
    dtype, heads = saved.lse.dtype, saved.q.shape[1]
    q, k, v = saved.q.to(dtype), repeat_heads(saved.k.to(dtype), heads), repeat_heads(saved.v.to(dtype), heads)
    scores, capped = settings.scale * (q @ k.mT), None
    if settings.softcap is not None:
        capped = torch.tanh(scores / settings.softcap)
        scores = settings.softcap * capped
    weights = _weights(mask_logits(scores, saved.mask, settings), saved.lse)
    return _Wide(q, k, v, weights, kept_weights(weights.shape, settings, dtype), capped)


def _widen_directions(wide: _Wide, directions: Directions) -> tuple[Tensor, Tensor, Tensor]:
    dtype, heads = wide.q.dtype, wide.q.shape[1]
    k, v = (repeat_heads(x.to(dtype), heads) for x in (directions.k, directions.v))
    return directions.q.to(dtype), k, v


def _rowsum(x: Tensor) -> Tensor:
    return x.sum(dim=-1, keepdim=True)


def _scores_dot(wide: _Wide, a: Tensor, b: Tensor, settings: AttentionSettings) -> Tensor:
    return settings.scale * (a @ wide.k.mT + wide.q @ b.mT)


def _logits_dot(wide: _Wide, scores_dot: Tensor, e: Tensor | None) -> Tensor:
    logits_dot = scores_dot if wide.capped is None else _slope(wide.capped) * scores_dot
    return logits_dot if e is None else logits_dot + e


def _slope(capped: Tensor) -> Tensor:
    """The derivative of c·tanh(score / c), given the tanh."""
    return 1 - capped.square()


def _delta(wide: _Wide, dweights: Tensor, cotangents: Cotangents) -> Tensor:
    """δ − dl (B, H, T, 1)."""
    delta = _rowsum(wide.weights * dweights)
    return delta if cotangents.lse is None else delta - cotangents.lse.unsqueeze(-1)


def _gradients(saved: Saved, dq: Tensor, dk: Tensor, dv: Tensor, dlogits: Tensor | None) -> Gradients:
    """Back to the shapes and dtypes of the inputs."""
    key_heads, dtype = saved.k.shape[1], saved.q.dtype
    dmask = None
    if dlogits is not None and saved.mask is not None:
        dmask = dlogits.sum_to_size(saved.mask.shape).to(saved.mask.dtype)
    return dq.to(dtype), sum_heads(dk, key_heads).to(dtype), sum_heads(dv, key_heads).to(dtype), dmask
