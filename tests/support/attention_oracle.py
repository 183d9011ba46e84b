"""An independent eager attention, and every first- and second-order derivative of an attention, as named blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Attention = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """Inputs of one attention, W that weights its output, and the keyword arguments that go with them.

    Derivatives are taken for the tensors among ``options`` too. With ``u`` the log-sum-exp is asked for, and weighted
    by it.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    w: Tensor
    mask: Tensor | None
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    u: Tensor | None = None

    @property
    def terms(self) -> int:
        """About the length of the longest sum."""
        return self.q.shape[-2] + self.k.shape[-2] + self.q.shape[-1] + self.v.shape[-1]

    @property
    def largest_logit(self) -> float:
        """The largest absolute value of scale · q kᵀ."""
        q, k = self.q.detach().double(), self.k.detach().double()
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        return scale * (q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT).abs().max().item()

    def map(self, change: Callable[[Tensor], Tensor]) -> Case:
        """The case with every floating tensor changed; requires_grad is kept."""

        def apply(x: Tensor | None) -> Tensor | None:
            if x is None or not x.is_floating_point():
                return x
            return change(x.detach()).detach().requires_grad_(x.requires_grad)

        options = {name: apply(x) if isinstance(x, Tensor) else x for name, x in self.options.items()}
        tensors = {name: apply(getattr(self, name)) for name in ("q", "k", "v", "w", "mask", "u")}
        return replace(self, **tensors, options=options)

    def to(self, device: str) -> Case:
        """The case on another device."""
        moved = self.map(lambda x: x.to(device))
        is_bool = moved.mask is not None and moved.mask.dtype == torch.bool
        return replace(moved, mask=moved.mask.to(device)) if is_bool and moved.mask is not None else moved

    def named(self) -> dict[str, Tensor]:
        """The tensors that derivatives are taken for."""
        tensors = {"q": self.q, "k": self.k, "v": self.v, "mask": self.mask, **self.options}
        return {name: x for name, x in tensors.items() if isinstance(x, Tensor) and x.requires_grad}

    def run(self, attention: Attention) -> Any:
        """The output, or with ``u`` a pair: it and the log-sum-exp."""
        lse = {} if self.u is None else {"return_lse": True}
        return attention(
            self.q,
            self.k,
            self.v,
            scale=self.scale,
            is_causal=self.is_causal,
            attn_mask=self.mask,
            enable_gqa=self.enable_gqa,
            **self.options,
            **lse,
        )


def eager_attention(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, is_causal: bool, attn_mask: Tensor | None,
    enable_gqa: bool, softcap: float | None = None, alibi_slopes: Tensor | None = None, sinks: Tensor | None = None,
    window: tuple[int, int] | None = None, kept: Tensor | None = None, return_lse: bool = False,
) -> Any:  # fmt: skip
    """Plain attention in the dtype of its inputs, written without any function of theria.

    ``kept`` multiplies the weights: dropout.
    """
    if enable_gqa:
        heads = torch.arange(q.shape[-3], device=q.device) // (q.shape[-3] // k.shape[-3])
        k, v = k.index_select(-3, heads), v.index_select(-3, heads)
    scores = torch.einsum("...td,...md->...tm", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    queries, keys = scores.shape[-2:]
    places, key_places = torch.arange(queries, device=q.device)[:, None], torch.arange(keys, device=q.device)
    if alibi_slopes is not None:
        distance = (places + keys - queries - key_places).abs()
        scores = scores - (alibi_slopes[..., None, None] * distance).to(scores.dtype)
    shown = torch.ones(scores.shape, dtype=torch.bool, device=q.device)
    if is_causal:
        shown = shown & (key_places <= places)
    if window is not None:
        shown = shown & (key_places >= places - window[0]) & (key_places <= places + window[1])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        shown = shown & attn_mask
    elif attn_mask is not None:
        shown = shown & (attn_mask > -torch.inf)
        scores = scores + attn_mask.clamp_min(torch.finfo(attn_mask.dtype).min / 2).to(scores.dtype)
    if sinks is not None:  # one more key, that has no value
        scores = torch.cat([scores, sinks[:, None, None].expand(*scores.shape[:-1], 1).to(scores.dtype)], -1)
        shown = torch.cat([shown, torch.ones_like(shown[..., :1])], -1)
        v = torch.cat([v, torch.zeros_like(v[..., :1, :])], -2)
    top = torch.where(shown, scores, torch.finfo(scores.dtype).min).amax(-1, keepdim=True).detach()
    exponentials = torch.where(shown, (torch.where(shown, scores, top) - top).exp(), 0.0)
    total = exponentials.sum(-1, keepdim=True)
    weights = exponentials / torch.where(total == 0, 1.0, total)
    if kept is not None:
        weights = weights * functional.pad(kept, (0, weights.shape[-1] - kept.shape[-1]))
    out = torch.einsum("...tm,...md->...td", weights, v)
    if not return_lse:
        return out
    lse = (top + torch.where(total == 0, 1.0, total).log()).masked_fill(total == 0, -torch.inf)
    return out, lse.squeeze(-1)


def derivative_blocks(case: Case, attention: Attention) -> Iterator[tuple[str, Tensor]]:
    """The output, the gradients g_a of ⟨W, out⟩ + ⟨u, lse⟩, and the blocks ∂⟨c_a, g_a⟩/∂b for every input b, W and u.

    The directions c_a are random and the same for every caller. A block that autograd reports as unused is zero.
    """
    inputs = case.named()
    outputs = case.run(attention)
    out, lse = (outputs, None) if case.u is None else outputs
    yield "out", out
    loss = (out * case.w).sum()
    if case.u is not None:
        yield "lse", lse
        loss = loss + (lse.masked_fill(lse == -torch.inf, 0.0) * case.u).sum()
    gradients = torch.autograd.grad(loss, list(inputs.values()), create_graph=True)
    generator = torch.Generator().manual_seed(7)
    targets = {**inputs, "out": case.w} if case.w.requires_grad else inputs
    targets = targets if case.u is None else {**targets, "lse": case.u}
    for a, gradient in zip(inputs, gradients, strict=True):
        yield a, gradient
        if not gradient.requires_grad:
            continue
        # eighths: exact in every dtype, so that the direction itself is not rounded
        direction = torch.randint(-16, 17, gradient.shape, generator=generator).to(gradient) / 8
        rows = torch.autograd.grad(
            (gradient * direction).sum(), list(targets.values()), retain_graph=True, allow_unused=True
        )
        for b, row in zip(targets, rows, strict=True):
            yield f"{a},{b}", torch.zeros_like(targets[b]) if row is None else row
