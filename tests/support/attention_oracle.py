"""An independent eager attention, and every first- and second-order derivative of an attention, as named blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Attention = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """Inputs of one attention, W that weights its output, and the keyword arguments that go with them."""

    q: Tensor
    k: Tensor
    v: Tensor
    w: Tensor
    mask: Tensor | None
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

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

        return replace(self, **{name: apply(getattr(self, name)) for name in ("q", "k", "v", "w", "mask")})

    def to(self, device: str) -> Case:
        """The case on another device."""
        moved = self.map(lambda x: x.to(device))
        is_bool = moved.mask is not None and moved.mask.dtype == torch.bool
        return replace(moved, mask=moved.mask.to(device)) if is_bool and moved.mask is not None else moved

    def named(self) -> dict[str, Tensor]:
        """The tensors that derivatives are taken for."""
        tensors = {"q": self.q, "k": self.k, "v": self.v, "mask": self.mask}
        return {name: x for name, x in tensors.items() if x is not None and x.requires_grad}

    def run(self, attention: Attention) -> Tensor:
        return attention(
            self.q,
            self.k,
            self.v,
            scale=self.scale,
            is_causal=self.is_causal,
            attn_mask=self.mask,
            enable_gqa=self.enable_gqa,
        )


def eager_attention(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, is_causal: bool, attn_mask: Tensor | None, enable_gqa: bool
) -> Tensor:
    """Plain attention in the dtype of its inputs, written without any function of theria."""
    if enable_gqa:
        heads = torch.arange(q.shape[-3], device=q.device) // (q.shape[-3] // k.shape[-3])
        k, v = k.index_select(-3, heads), v.index_select(-3, heads)
    scores = torch.einsum("...td,...md->...tm", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    queries, keys = scores.shape[-2:]
    shown = torch.ones(scores.shape, dtype=torch.bool, device=q.device)
    if is_causal:
        shown = shown & (torch.arange(keys, device=q.device) <= torch.arange(queries, device=q.device)[:, None])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        shown = shown & attn_mask
    elif attn_mask is not None:
        shown = shown & (attn_mask > -torch.inf)
        scores = scores + attn_mask.clamp_min(torch.finfo(attn_mask.dtype).min / 2).to(scores.dtype)
    top = torch.where(shown, scores, torch.finfo(scores.dtype).min).amax(-1, keepdim=True).detach()
    exponentials = torch.where(shown, (torch.where(shown, scores, top) - top).exp(), 0.0)
    total = exponentials.sum(-1, keepdim=True)
    return torch.einsum("...tm,...md->...td", exponentials / torch.where(total == 0, 1.0, total), v)


def derivative_blocks(case: Case, attention: Attention) -> Iterator[tuple[str, Tensor]]:
    """The output, the gradients g_a of ⟨W, out⟩, and the blocks ∂⟨c_a, g_a⟩/∂b for every input b and b = W.

    The directions c_a are random and the same for every caller. A block that autograd reports as unused is zero.
    """
    inputs = case.named()
    out = case.run(attention)
    yield "out", out
    gradients = torch.autograd.grad((out * case.w).sum(), list(inputs.values()), create_graph=True)
    generator = torch.Generator().manual_seed(7)
    targets = {**inputs, "out": case.w} if case.w.requires_grad else inputs
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
