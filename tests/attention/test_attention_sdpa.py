"""The drop-in against F.scaled_dot_product_attention itself: ranks, masks, autocast, signature."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from theria.attention import attention, backend_names, executed_backends, sdpa

BACKENDS = backend_names()
SHAPES = {
    "rank 2": ((5, 4), (6, 4), (6, 3)),
    "rank 3": ((2, 5, 4), (2, 6, 4), (2, 6, 3)),
    "rank 4": ((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 3)),
    "rank 5": ((2, 1, 3, 5, 4), (2, 1, 3, 6, 4), (2, 1, 3, 6, 3)),
    "broadcast batches and heads": ((2, 3, 5, 4), (1, 3, 6, 4), (2, 1, 6, 3)),
}
MASKS = {
    "none": None,
    "one row for all": (1, 6),
    "matrix": (5, 6),
    "column": (5, 1),
    "a head dimension": (1, 5, 6),
}


def _inputs(name: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, requires_grad=True) for shape in SHAPES[name]]


@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_output_agrees(backend: str, shapes: str, mask: str, kind: str) -> None:
    inputs, shape = _inputs(shapes), MASKS[mask]
    if shape is not None and len(shape) > len(inputs[0].shape):
        shape = shape[1:]
    attn_mask = None if shape is None else torch.randn(shape, generator=torch.Generator().manual_seed(2))
    if attn_mask is not None and kind == "bool":
        attn_mask = attn_mask > -1
    expected = scaled_dot_product_attention(*inputs, attn_mask, is_causal=attn_mask is None, scale=0.7)
    found = sdpa(backend)(*inputs, attn_mask, is_causal=attn_mask is None, scale=0.7)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_grouped_queries_agree(backend: str) -> None:
    q, k, v = torch.randn(2, 6, 5, 4), torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 4)
    expected = scaled_dot_product_attention(q, k, v, enable_gqa=True)
    torch.testing.assert_close(sdpa(backend)(q, k, v, enable_gqa=True), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_without_keys_are_zero_in_every_derivative(backend: str) -> None:
    q, k, v = (x.detach().double().requires_grad_() for x in _inputs("rank 3"))
    shown = torch.ones(5, 6, dtype=torch.bool)
    shown[2] = False
    out = sdpa(backend)(q, k, v, shown)
    assert not out[:, 2].any()
    gradients = torch.autograd.grad(out.sin().sum(), (q, k, v), create_graph=True)
    assert not gradients[0][:, 2].any()
    second = torch.autograd.grad(torch.stack([g.square().sum() for g in gradients]).sum(), (q, k, v))
    assert not second[0][:, 2].any()
    assert all(bool(x.isfinite().all()) for x in (out, *gradients, *second))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_gives_the_dtype_that_pytorch_gives(backend: str, dtype: torch.dtype) -> None:
    q, k, v = (x.detach().to(dtype).requires_grad_() for x in _inputs("rank 4"))
    bias = torch.randn(5, 6, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        expected = scaled_dot_product_attention(q, k, v, bias)
        found = sdpa(backend)(q, k, v, bias)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    (gradient,) = torch.autograd.grad(found.float().square().sum(), q, create_graph=True)
    (second,) = torch.autograd.grad(gradient.float().square().sum(), k)
    assert gradient.dtype == second.dtype == dtype
    assert float(second.abs().max()) > 0


def test_has_the_signature_of_the_original() -> None:
    assert list(inspect.signature(sdpa("custom")).parameters) == [
        "query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa",
    ]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_backend_that_runs_reports_itself(backend: str) -> None:
    q, k, v = _inputs("rank 4")
    with executed_backends() as names:
        sdpa(backend)(q, k, v)
        attention(q, k, v, backend="reference")
    attention(q, k, v, backend="custom")
    assert names == [backend, "reference"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_leaves_the_random_state_alone(backend: str) -> None:
    before = torch.get_rng_state()
    q, k, v = _inputs("rank 3")
    torch.autograd.grad(sdpa(backend)(q, k, v).sum(), q)
    assert torch.equal(torch.get_rng_state(), before)
