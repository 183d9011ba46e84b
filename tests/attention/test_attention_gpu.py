"""The kernels compiled for a CUDA GPU: the same blocks, bounds and independent attention as on the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from triton.runtime.errors import OutOfResources

from tests.support.allowed_error import error
from tests.support.attention_grid import build, check_blocks
from tests.support.attention_oracle import eager_attention
from theria.attention import DerivativeOrderError, attention, executed_backends
from theria.attention.triton import blocks
from theria.attention.triton.kernel import Kernel

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


@pytest.mark.parametrize(("width", "mask"), [(24, "hidden"), (128, "hidden"), (24, "bool")])
def test_float64(width: int, mask: str) -> None:
    case = build(queries=40, keys=70, width=width, value_width=width, mask=mask)
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_first_order_is_pytorchs_own_where_it_has_a_kernel(dtype: torch.dtype, causal: bool) -> None:
    case = build(
        heads=4, key_heads=2, queries=200, keys=200, width=64, value_width=64, causal=causal, dtype=dtype
    ).to("cuda")  # fmt: skip
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        check_blocks(case, "triton")
    names = {event.name for event in seen.events() if event.name.startswith("aten::_scaled_dot_product")}
    assert any(name.endswith("attention") for name in names)
    assert any(name.endswith("backward") for name in names)


def test_the_users_choice_of_kernels_is_heeded() -> None:
    case = build(queries=64, keys=64, width=64, value_width=64, dtype=torch.bfloat16).to("cuda")
    with sdpa_kernel(SDPBackend.MATH), profile(activities=[ProfilerActivity.CPU]) as seen:
        check_blocks(case, "triton")
    assert not [event.name for event in seen.events() if event.name.startswith("aten::_scaled_dot_product")]


def test_smaller_tiles_are_taken_where_the_largest_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    offered, run, refused = blocks.choose, Kernel.run, []

    def with_one_too_large(*problem: Any, **options: Any) -> tuple[blocks.Blocks, ...]:
        fastest, *others = offered(*problem, **options)
        return (replace(fastest, stages=40), fastest, *others)  # as many tiles are held at a time

    def counted(self: Kernel, *args: Any, **options: Any) -> Any:
        try:
            return run(self, *args, **options)
        except OutOfResources:
            refused.append(self.__name__)
            raise

    monkeypatch.setattr(blocks, "choose", with_one_too_large)
    monkeypatch.setattr(Kernel, "run", counted)
    case = build(queries=40, keys=70, width=128, value_width=120, dtype=torch.bfloat16).to("cuda")
    check_blocks(case, "triton")
    assert refused


def test_float32_is_as_coarse_as_pytorch_is_told_to_be() -> None:
    case = build(queries=128, keys=128, width=64, value_width=64, dtype=torch.float32).to("cuda")
    exact = eager_attention(
        *(x.detach().double() for x in (case.q, case.k, case.v)),
        scale=None, is_causal=False, attn_mask=None, enable_gqa=False,
    )  # fmt: skip
    errors = {}
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        try:
            errors[precision] = error(attention(case.q, case.k, case.v, backend="triton"), exact)
        finally:
            torch.set_float32_matmul_precision("highest")
    assert 10 * errors["highest"] < errors["high"] < 1e-2


def test_a_cuda_graph_replays_the_second_order() -> None:
    x = [torch.randn(1, 2, 100, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(4)]

    def second_order() -> tuple[torch.Tensor, ...]:
        out = attention(*x[:3], backend="triton")
        gradients = torch.autograd.grad(out, x[:3], x[3], create_graph=True)
        return torch.autograd.grad(gradients, x, gradients)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            second_order()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = second_order()
    with torch.no_grad():
        for tensor in x:
            tensor.copy_(torch.randn_like(tensor))
    graph.replay()
    for found, expected in zip(captured, second_order(), strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
