"""PyTorch's own checks, and finite differences whose error falls as theory says."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tests.support.attention_grid import build
from theria.attention import attention, backend_names


@pytest.mark.parametrize("mask", ["causal", "bool", "additive"])
@pytest.mark.parametrize("backend", backend_names())
def test_gradcheck_and_gradgradcheck(backend: str, mask: str) -> None:
    causal = mask == "causal"
    case = build(key_heads=1, queries=3, keys=4, width=2, value_width=2, mask="none" if causal else mask, causal=causal)

    def run(*inputs: Tensor) -> Tensor:
        tensors = dict(zip(case.named(), inputs, strict=True))
        mask_now = tensors.pop("mask", case.mask)
        return attention(**tensors, backend=backend, is_causal=causal, attn_mask=mask_now, enable_gqa=True)

    inputs = tuple(case.named().values())
    # the fast mode compares random projections; every block is compared entry by entry elsewhere
    assert gradcheck(run, inputs, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(run, inputs, fast_mode=True, check_fwd_over_rev=True)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("backend", backend_names())
def test_finite_difference_error_falls_with_the_square_of_the_step(backend: str, order: int) -> None:
    """Central differences of a right derivative err by c·h²; a wrong one leaves an error that does not fall."""
    case = build(mask="additive", seed=3)
    inputs = list(case.named().values())
    generator = torch.Generator().manual_seed(5)
    step = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in inputs]

    def value(h: float) -> float:
        """The quantity that is differentiated along ``step``: the loss, or the loss's own derivative along it."""
        moved = [(x.detach() + h * d).requires_grad_() for x, d in zip(inputs, step, strict=True)]
        q, k, v, mask = moved
        loss = (attention(q, k, v, backend=backend, attn_mask=mask) * case.w.detach()).sum()
        return loss.item() if order == 1 else _along(loss, moved, step).item()

    moved = [x.detach().requires_grad_() for x in inputs]
    q, k, v, mask = moved
    loss = (attention(q, k, v, backend=backend, attn_mask=mask) * case.w.detach()).sum()
    slope = _along(loss, moved, step)
    exact = slope.item() if order == 1 else _along(slope, moved, step).item()
    errors = [abs((value(h) - value(-h)) / (2 * h) - exact) for h in (2e-2, 1e-2, 5e-3)]
    falls = [math.log2(a / b) for a, b in pairwise(errors)]
    assert falls == pytest.approx([2.0, 2.0], abs=0.1), errors


def _along(loss: Tensor, inputs: list[Tensor], direction: list[Tensor]) -> Tensor:
    gradients = torch.autograd.grad(loss, inputs, create_graph=True)
    return torch.stack([(g * d).sum() for g, d in zip(gradients, direction, strict=True)]).sum()
