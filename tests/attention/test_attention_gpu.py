"""The kernels compiled for a CUDA GPU: the same blocks, bounds and independent attention as on the CPU."""

from __future__ import annotations

import pytest
import torch

from tests.support.attention_grid import build, check_blocks
from theria.attention import DerivativeOrderError, attention, executed_backends

pytestmark = pytest.mark.gpu

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Each triple of head sizes, dtype and kind of mask is a compilation of six kernels, a second or more each: every head
# size and every kind of mask is there at least once in both sizes of entry; the two half precisions share tile sizes.
BY_WIDTH = {16: "bool", 32: "additive", 80: "hidden", 128: "causal", 256: "none"}
MASKS = ("none", "causal", "bool", "additive")


@pytest.mark.parametrize(
    ("width", "dtype"),
    [*((width, dtype) for width in BY_WIDTH for dtype in DTYPES[:2]), (80, torch.float16), (128, torch.float16)],
    ids=str,
)
def test_head_sizes(width: int, dtype: torch.dtype) -> None:
    mask = BY_WIDTH[width]
    case = build(
        heads=4, queries=77, keys=131, width=width, value_width=width, mask="none" if mask == "causal" else mask,
        causal=mask == "causal", dtype=dtype,
    )  # fmt: skip
    check_blocks(case.to("cuda"), "triton")


@pytest.mark.parametrize(
    ("mask", "dtype"),
    [*((mask, dtype) for mask in MASKS for dtype in DTYPES[:2]), ("none", torch.float16), ("additive", torch.float16)],
    ids=str,
)
def test_masks_with_grouped_queries(mask: str, dtype: torch.dtype) -> None:
    case = build(
        batch=2, heads=6, key_heads=3, queries=150, keys=97, width=64, value_width=48, scale=0.2,
        mask="none" if mask == "causal" else mask, causal=mask == "causal", dtype=dtype,
    )  # fmt: skip
    check_blocks(case.to("cuda"), "triton")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(True, False, True, False), (False, True, False, True), (False,) * 4])
def test_broadcast_masks(shape: tuple[bool, ...], dtype: torch.dtype) -> None:
    case = build(batch=2, queries=70, keys=70, width=32, value_width=32, mask="additive", mask_shape=shape, dtype=dtype)
    check_blocks(case.to("cuda"), "triton")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 300), (300, 1), (257, 255)])
def test_odd_lengths_and_strides(queries: int, keys: int, dtype: torch.dtype) -> None:
    case = build(queries=queries, keys=keys, width=64, value_width=48, strided=True, dtype=dtype)
    check_blocks(case.to("cuda"), "triton")


@pytest.mark.parametrize("width", [24, 128])
def test_float64(width: int) -> None:
    case = build(queries=40, keys=70, width=width, value_width=width, mask="hidden")
    check_blocks(case.to("cuda"), "triton")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", ["reference", "custom"])
def test_eager_backends(backend: str, dtype: torch.dtype) -> None:
    check_blocks(build(queries=150, keys=97, width=64, value_width=64, mask="hidden", dtype=dtype).to("cuda"), backend)


def test_float64_beyond_what_fits_is_refused() -> None:
    q = torch.ones(1, 1, 2, 256, dtype=torch.float64, device="cuda")
    with pytest.raises(
        ValueError, match=r"q has head dimension 256: backend='triton' goes up to 128 for torch.float64"
    ):
        attention(q, q, q, backend="triton")


def test_memory_stays_below_one_score_matrix() -> None:
    heads, length, width = 8, 4096, 64
    q, k, v, w = (
        torch.randn(1, heads, length, width, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(4)
    )
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = attention(q, k, v, backend="triton")
    gradients = torch.autograd.grad((out * w).sum(), (q, k, v), create_graph=True)
    torch.autograd.grad(torch.stack([g.float().square().sum() for g in gradients]).sum(), (q, k, v, w))
    peak = torch.cuda.max_memory_allocated() - before
    one_matrix = heads * length * length * q.element_size()
    assert peak < one_matrix, f"peak {peak / 2**20:.0f} MiB, a bfloat16 score matrix has {one_matrix / 2**20:.0f} MiB"


def test_third_order_raises_and_the_backend_is_recorded() -> None:
    case = build(width=32, value_width=32).to("cuda")
    with executed_backends() as names:
        out = attention(case.q, case.k, case.v, backend="triton")
    assert names == ["triton"]
    loss = out.square().sum()
    for _ in range(2):
        loss = torch.autograd.grad(loss, case.q, create_graph=True)[0].square().sum()
    with pytest.raises(DerivativeOrderError):
        torch.autograd.grad(loss, case.q)


def test_autocast() -> None:
    case = build(dtype=torch.float32, width=32, value_width=32).to("cuda")
    with torch.autocast("cuda", torch.bfloat16):
        out = attention(case.q, case.k, case.v, backend="triton")
    assert out.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(out.float().square().sum(), case.q, create_graph=True)
    assert gradient.dtype == torch.float32
    (second,) = torch.autograd.grad(gradient.square().sum(), case.k)
    assert bool(second.isfinite().all())
    assert float(second.abs().max()) > 0
