"""torch.func on every backend, compared with the same transform of the independent attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian, jacrev, jvp, vjp, vmap
from torch.utils._pytree import tree_leaves

from tests.support.attention_oracle import eager_attention
from theria.attention import attention

Run = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
ALL = (0, 1, 2, 3)


def _draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


# two in the batch share the mask: its gradient has to be summed over them, and over nothing that is mapped
INPUTS = (_draw(2, 1, 3, 2), _draw(2, 1, 4, 2), _draw(2, 1, 4, 3), _draw(1, 1, 3, 4))
TANGENTS = tuple(x.roll(1, -1) for x in INPUTS)
MAPPED_Q, MAPPED_MASK = _draw(3, 2, 1, 3, 2), _draw(1, 1, 3, 3, 4)


def _loss(run: Run) -> Run:
    return lambda *inputs: run(*inputs).sin().sum()


def _sum_of_gradients(run: Run) -> Run:
    return lambda *inputs: torch.stack([g.sin().sum() for g in grad(_loss(run), ALL)(*inputs)]).sum()


TRANSFORMS: dict[str, Callable[[Run], Any]] = {
    "jvp": lambda run: jvp(run, INPUTS, TANGENTS),
    "vjp": lambda run: vjp(run, *INPUTS)[1](torch.ones(2, 1, 3, 3, dtype=torch.float64)),
    "grad": lambda run: grad(_loss(run), ALL)(*INPUTS),
    "grad of grad": lambda run: grad(_sum_of_gradients(run), ALL)(*INPUTS),
    "jvp of grad": lambda run: jvp(grad(_loss(run), ALL), INPUTS, TANGENTS),
    "grad of jvp": lambda run: grad(lambda *x: jvp(run, x, TANGENTS)[1].sin().sum(), ALL)(*INPUTS),
    "hessian": lambda run: hessian(_loss(run), (0, 3))(*INPUTS),
    "jacrev of jacrev": lambda run: jacrev(jacrev(_loss(run), (0, 3)), 0)(*INPUTS),
    "jacrev of jvp": lambda run: jacrev(lambda *x: jvp(run, x, TANGENTS)[1].sum(-1), (0, 3))(*INPUTS),
    "vmap over q": lambda run: vmap(run, (0, None, None, None))(MAPPED_Q, *INPUTS[1:]),
    "vmap over the mask": lambda run: vmap(run, (None, None, None, 2))(*INPUTS[:3], MAPPED_MASK),
    "vmap of grad": lambda run: vmap(grad(_loss(run), ALL), (0, None, None, 2))(MAPPED_Q, *INPUTS[1:3], MAPPED_MASK),
    "vmap of grad, one mask": lambda run: vmap(grad(_loss(run), ALL), (0, None, None, None))(MAPPED_Q, *INPUTS[1:]),
    "vmap of second order": lambda run: vmap(grad(_sum_of_gradients(run), ALL), (0, None, None, None))(
        MAPPED_Q, *INPUTS[1:]
    ),
    "vmap of jvp": lambda run: vmap(lambda q: jvp(run, (q, *INPUTS[1:]), TANGENTS)[1])(MAPPED_Q),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("backend", ["reference", "custom", "triton"])
def test_agrees_with_eager(backend: str, transform: str) -> None:
    def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return attention(q, k, v, backend=backend, attn_mask=mask)

    def eager(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return eager_attention(q, k, v, scale=None, is_causal=False, attn_mask=mask, enable_gqa=False)

    found, expected = (tree_leaves(TRANSFORMS[transform](f)) for f in (run, eager))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "custom", "triton"])
def test_hessian_with_a_boolean_mask(backend: str) -> None:
    shown = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)

    def loss(run: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda q: run(q, *INPUTS[1:3], attn_mask=shown).sin().sum()

    found = hessian(loss(lambda *x, **y: attention(*x, **y, backend=backend)))(INPUTS[0])
    expected = hessian(loss(lambda *x, **y: eager_attention(*x, **y, scale=None, is_causal=False, enable_gqa=False)))(
        INPUTS[0]
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
