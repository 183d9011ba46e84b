"""Nine Hessian blocks, three cotangent blocks and the mask's, against float64 autograd of an independent attention."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.support.attention_grid import build, check_blocks

BACKENDS = ("reference", "custom", "triton")
HALVES = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("mask", ["none", "causal", "bool", "additive", "hidden"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.usefixtures("small_tiles")
def test_lower_precision(backend: str, mask: str, dtype: torch.dtype) -> None:
    causal = mask == "causal"
    case = build(
        key_heads=1,
        queries=19,
        keys=37,
        width=20,
        value_width=17,
        mask="none" if causal else mask,
        causal=causal,
        dtype=dtype,
    )
    check_blocks(case, backend)


@pytest.mark.parametrize("width", [1, 16, 80, 256])
@pytest.mark.parametrize("backend", BACKENDS)
def test_head_dimensions(backend: str, width: int) -> None:
    check_blocks(build(heads=1, key_heads=1, width=width, value_width=257 - width), backend)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 9), (9, 1), (130, 3), (3, 130)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_lengths(backend: str, queries: int, keys: int) -> None:
    check_blocks(build(heads=1, key_heads=1, queries=queries, keys=keys, causal=True), backend)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("queries", [1, 9, 300])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_single_key_has_exact_zeros(backend: str, queries: int, dtype: torch.dtype) -> None:
    """P is 1 whatever q and k are: a rounding that does not cancel is all that their blocks can hold."""
    check_blocks(build(queries=queries, keys=1, width=32, value_width=24, strided=True, dtype=dtype), backend)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_single_key_in_sight_has_exact_zeros(backend: str, dtype: torch.dtype) -> None:
    case = build(queries=300, keys=40, width=32, value_width=24, dtype=dtype)
    shown = torch.arange(40) == torch.randint(40, (300, 1), generator=torch.Generator().manual_seed(0))
    check_blocks(replace(case, mask=shown), backend)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_all_keys_have_in_common_cancels(backend: str, dtype: torch.dtype) -> None:
    """Equal keys and values: Ṡ is a constant of the row for a direction of q, and so is dP."""
    case = build(queries=300, keys=2, width=32, value_width=24, scale=1.0, dtype=dtype)
    k, v = (x.detach()[..., :1, :].expand(x.shape).contiguous().requires_grad_() for x in (case.k, case.v))
    check_blocks(replace(case, k=k, v=v), backend)


@pytest.mark.parametrize("names", [("q",), ("k",), ("v",), ("mask",), ("q", "v"), ("k", "mask"), ("v", "mask")])
@pytest.mark.parametrize("w_requires_grad", [True, False])
@pytest.mark.parametrize("backend", ["custom", "triton"])
def test_any_subset_may_require_gradients(backend: str, w_requires_grad: bool, names: tuple[str, ...]) -> None:
    case = build(mask="additive")
    for name in ("q", "k", "v", "mask"):
        getattr(case, name).requires_grad_(name in names)
    case.w.requires_grad_(w_requires_grad)
    check_blocks(case, backend)
