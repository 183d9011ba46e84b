"""The third derivative raises wherever it is asked for; the reference has it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import jacfwd

from tests.support.attention_grid import build
from theria.attention import DerivativeOrderError, attention

ANALYTIC = ("custom", "triton")
MESSAGE = "has first and second derivatives, and a third was asked for: use backend='reference'"

BY_GRAD: Callable[..., object] = torch.autograd.grad


def _backward(loss: Tensor, inputs: list[Tensor]) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def _second_order(backend: str, w_requires_grad: bool) -> tuple[Tensor, list[Tensor]]:
    case = build(queries=3, keys=4, mask="additive")
    case.w.requires_grad_(w_requires_grad)
    inputs = list(case.named().values())
    out = attention(case.q, case.k, case.v, backend=backend, attn_mask=case.mask)
    first = torch.autograd.grad((out * case.w).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), inputs, create_graph=True)
    return torch.stack([g.square().sum() for g in second]).sum(), inputs


@pytest.mark.parametrize("differentiate", [BY_GRAD, _backward])
@pytest.mark.parametrize("w_requires_grad", [True, False])
@pytest.mark.parametrize("backend", ANALYTIC)
def test_third_order_raises(backend: str, w_requires_grad: bool, differentiate: Callable[..., object]) -> None:
    loss, inputs = _second_order(backend, w_requires_grad)
    with pytest.raises(DerivativeOrderError, match=re.escape(f"backend='{backend}' {MESSAGE}")):
        differentiate(loss, inputs)


@pytest.mark.parametrize("name", ["q", "k", "v", "mask"])
@pytest.mark.parametrize("backend", ANALYTIC)
def test_third_order_raises_for_each_input_alone(backend: str, name: str) -> None:
    loss, inputs = _second_order(backend, False)
    with pytest.raises(DerivativeOrderError):
        torch.autograd.grad(loss, inputs[("q", "k", "v", "mask").index(name)])


def test_reference_has_the_third_order() -> None:
    loss, inputs = _second_order("reference", True)
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(loss, inputs))


@pytest.mark.parametrize("backend", ANALYTIC)
def test_forward_over_forward_says_what_to_do(backend: str) -> None:
    case = build(queries=2, keys=2, width=1, value_width=1, heads=1, key_heads=1)
    k, v = case.k.detach(), case.v.detach()
    with pytest.raises(DerivativeOrderError, match="nest jacfwd over jacrev instead, or use backend='reference'"):
        jacfwd(jacfwd(lambda q: attention(q, k, v, backend=backend)))(case.q.detach())
