"""Attention in compiled code: one graph, the derivatives of uncompiled code, and loudness where there are none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.attention_grid import build
from tests.support.attention_oracle import derivative_blocks, eager_attention
from theria.attention import DerivativeOrderError, attention, executed_backends
from theria.attention.canonical_problem import canonical
from theria.attention.compiled_operators import attend_compiled

BACKENDS = ["custom", "triton"]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _compile(run: Any, backend: str) -> Any:
    return torch.compile(run, fullgraph=True, backend=backend)


@pytest.mark.parametrize("kind", ["none", "bool", "additive", "causal and grouped"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_first_order_is_one_graph(backend: str, kind: str) -> None:
    grouped = {"heads": 4, "causal": True} if kind.startswith("causal") else {"mask": kind}
    case = build(**grouped)  # type: ignore[arg-type]

    def run(*tensors: Tensor) -> Tensor:
        return attention(
            *tensors, backend=backend, attn_mask=case.mask, is_causal=case.is_causal, enable_gqa=case.enable_gqa
        )

    named = list(case.named().values())
    found = _compile(run, "aot_eager")(case.q, case.k, case.v)
    expected = case.run(eager_attention)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, named, case.w.detach()), torch.autograd.grad(expected, named, case.w.detach())
    )


@pytest.mark.parametrize("mask", ["none", "additive"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_second_order_is_right_where_the_compiler_keeps_autograd(backend: str, mask: str) -> None:
    case = build(mask=mask)
    compiled = _compile(lambda *x, **options: attention(*x, backend=backend, **options), "eager")
    expected = dict(derivative_blocks(case, eager_attention))
    for name, block in derivative_blocks(case, compiled):
        torch.testing.assert_close(block, expected.get(name, torch.zeros_like(block)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_third_order_raises_in_compiled_code_too(backend: str) -> None:
    case = build()
    loss = _compile(lambda *x: attention(*x, backend=backend), "eager")(case.q, case.k, case.v).square().sum()
    for _ in range(2):
        loss = torch.autograd.grad(loss, case.q, create_graph=True)[0].square().sum()
    with pytest.raises(DerivativeOrderError, match=f"backend='{backend}' has first and second derivatives"):
        torch.autograd.grad(loss, case.q)


def test_compiled_code_says_which_backend_ran() -> None:
    case = build()
    compiled = _compile(lambda *x: attention(*x, backend="custom"), "aot_eager")
    with executed_backends() as names:
        compiled(case.q, case.k, case.v)
    assert names == ["custom"]


def test_dropout_is_drawn_anew_in_compiled_code_and_has_its_derivatives() -> None:
    case = build(queries=20, keys=20)
    compiled = _compile(lambda *x: attention(*x, backend="custom", dropout_p=0.5), "aot_eager")
    first, second = (compiled(case.q, case.k, case.v) for _ in range(2))
    assert not torch.equal(first, second)
    (gradient,) = torch.autograd.grad(second, case.v, case.w.detach())
    # out is linear in v, by the weights that were kept
    torch.testing.assert_close((gradient * case.v).sum(), (second * case.w).sum())


@pytest.mark.parametrize("mask", ["none", "additive"])
def test_operators_are_what_the_library_of_operators_asks_for(mask: str) -> None:
    case = build(mask=mask)
    problem = canonical(
        case.q, case.k, case.v, scale=None, is_causal=False, attn_mask=case.mask, enable_gqa=False
    )  # fmt: skip
    assert attend_compiled(problem, "custom")[0].shape == case.w.shape
    tensors = (problem.q, problem.k, problem.v, problem.mask, None, None)
    torch.library.opcheck(
        torch.ops.theria.attend.default,
        (*tensors, problem.settings.scale, False, 0.0, None, None, None, "custom", True),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_transforms_in_compiled_code_are_right_in_more_than_one_graph(backend: str) -> None:
    case = build()
    k, v = case.k.detach(), case.v.detach()

    def differentiate_twice(q: Tensor) -> Tensor:
        def loss(q: Tensor) -> Tensor:
            return attention(q, k, v, backend=backend).square().sum()

        return torch.func.grad(lambda q: torch.func.grad(loss)(q).square().sum())(q)  # type: ignore[no-any-return]

    q = case.q.detach()
    torch.testing.assert_close(torch.compile(differentiate_twice, backend="aot_eager")(q), differentiate_twice(q))
