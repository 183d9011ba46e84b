"""Caps of scores, ALiBi, sinks and the log-sum-exp: every block on every backend, against attention written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tests.support.attention_grid import build, check_blocks
from tests.support.attention_oracle import Case, derivative_blocks, eager_attention
from theria.attention import DerivativeOrderError, attention, backend_names
from theria.attention.canonical_problem import AttentionSettings
from theria.attention.dropout import kept_weights, with_seed
from theria.attention.engines import load_engine

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SHARE = 0.3


def _numbers(*shape: int, learned: bool = True) -> Tensor:
    """Below and above zero, as slopes and sinks may be."""
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(11))
    return values.requires_grad_(learned)


SLOPES, OWN_SLOPES, SINKS = _numbers(2, learned=False), _numbers(2, 2, learned=False), _numbers(2)
#: What a case is built with, what it is computed with, and whether its log-sum-exp is taken.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "softcap": ({}, {"softcap": 0.7}, False),
    "softcap, causal and grouped": ({"heads": 4, "causal": True, "queries": 7}, {"softcap": 1.3}, False),
    "softcap under a mask": ({"mask": "hidden"}, {"softcap": 0.7}, False),
    "softcap that nothing reaches": ({}, {"softcap": 1e4}, False),
    "alibi": ({}, {"alibi_slopes": SLOPES}, False),
    "alibi, more queries than keys": ({"queries": 7, "keys": 3}, {"alibi_slopes": SLOPES}, False),
    "alibi of each in the batch": ({"batch": 2, "mask": "bool", "key_heads": 1}, {"alibi_slopes": OWN_SLOPES}, False),
    "alibi under a mask": ({"mask": "hidden"}, {"alibi_slopes": SLOPES}, False),
    "alibi that is learned": ({"mask": "additive"}, {"alibi_slopes": _numbers(2)}, False),
    "sinks": ({}, {"sinks": SINKS}, False),
    "sinks in rows without keys": ({"mask": "bool"}, {"sinks": SINKS}, True),
    "lse": ({}, {}, True),
    "lse of rows without keys": ({"mask": "hidden"}, {}, True),
    "lse, causal and grouped": ({"heads": 4, "causal": True, "queries": 7}, {}, True),
    "all, in a window": (
        {"key_heads": 1, "queries": 7},
        {"softcap": 1.3, "alibi_slopes": SLOPES, "sinks": SINKS, "window": (3, 1)},
        True,
    ),
}  # fmt: skip
#: What Triton's interpreter, which is slow, is given of them; a GPU is given all.
INTERPRETED = (
    "softcap, causal and grouped",
    "softcap under a mask",
    "alibi, more queries than keys",
    "alibi of each in the batch",
    "lse of rows without keys",
    "all, in a window",
)
RUNS = [
    pytest.param(backend, name, device, marks=[pytest.mark.gpu] if device == "cuda" else [])
    for backend in backend_names()
    for name in CASES
    for device in ("cpu", "cuda")
    if backend != "triton" or device == "cuda" or name in INTERPRETED
]


def _make(name: str, **changes: Any) -> Case:
    shape, options, with_lse = CASES[name]
    case = build(**{**shape, **changes})
    u = torch.linspace(-1, 2, case.w[..., 0].numel(), dtype=torch.float64).reshape(case.w.shape[:-1])
    return replace(case, options=options, u=u.requires_grad_() if with_lse else None)


@pytest.mark.parametrize(("backend", "name", "device"), RUNS)
def test_every_block_is_that_of_attention_written_out(backend: str, name: str, device: str) -> None:
    check_blocks(_make(name).to(device), backend)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", backend_names())
def test_the_errors_in_less_precision_are_those_of_eager_attention(
    backend: str, dtype: torch.dtype, device: str
) -> None:
    case = _make("all, in a window", queries=19, keys=21, width=16, value_width=16)
    check_blocks(case.map(lambda x: x.to(dtype)).to(device), backend)


@pytest.mark.usefixtures("small_tiles")
def test_the_kernels_have_it_across_tiles() -> None:
    check_blocks(_make("all, in a window", queries=21, keys=37), "triton")


@pytest.mark.parametrize("backend", ["custom", "triton"])
def test_with_dropout_every_block_is_that_of_the_same_weights_dropped(backend: str) -> None:
    case = _make("all, in a window")

    def run(*tensors: Tensor, **options: Any) -> Any:
        torch.manual_seed(5)
        return attention(*tensors, backend=backend, dropout_p=SHARE, **options)

    torch.manual_seed(5)
    settings = with_seed(AttentionSettings(1.0, False, SHARE), case.q.device)
    kept = kept_weights(torch.Size((*case.q.shape[:3], case.k.shape[2])), settings, torch.float64)
    expected = dict(derivative_blocks(case, lambda *x, **options: eager_attention(*x, kept=kept, **options)))
    for block, tensor in derivative_blocks(case, run):
        exact = expected.get(block, torch.zeros_like(tensor))
        torch.testing.assert_close(
            tensor, exact, rtol=1e-10, atol=1e-12, msg=lambda text, block=block: f"{block}: {text}"
        )


@pytest.mark.parametrize("backend", ["reference", "custom"])
def test_finite_differences_agree(backend: str) -> None:
    small = {"heads": 1, "queries": 3, "keys": 4, "width": 2, "value_width": 2}
    case = _make("all, in a window", **small)
    sinks = SINKS[:1].detach().requires_grad_()
    options = {**case.options, "alibi_slopes": SLOPES[:1]}

    def run(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor) -> Any:
        return attention(
            q, k, v, backend=backend, enable_gqa=True, return_lse=True, **{**options, "sinks": sinks}
        )  # fmt: skip

    inputs = (case.q, case.k, case.v, sinks)
    assert gradcheck(run, inputs, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(run, inputs, fast_mode=True, check_fwd_over_rev=True)


@pytest.mark.parametrize("backend", backend_names())
def test_transforms_agree_with_eager(backend: str) -> None:
    case = _make("all, in a window", queries=3, keys=3, width=2, value_width=2)
    k, v = case.k.detach(), case.v.detach()
    slopes = _numbers(3, 2, learned=False)  # for each that is mapped

    def differentiate(run: Any) -> Any:
        def loss(q: Tensor, slopes: Tensor, sinks: Tensor) -> Tensor:
            options = {**case.options, "alibi_slopes": slopes, "sinks": sinks}
            out, lse = run(
                q, k, v, scale=None, is_causal=False, attn_mask=None, enable_gqa=True, return_lse=True, **options
            )
            return out.sin().sum() + lse.sin().sum()

        def second(slopes: Tensor) -> Any:
            inputs = (case.q.detach(), slopes, SINKS.detach())
            gradient = torch.func.grad(loss, (0, 1, 2))
            return torch.func.jvp(gradient, inputs, tuple(x.roll(1, -1) for x in inputs))

        return torch.func.vmap(second)(slopes)

    found = differentiate(lambda *x, **options: attention(*x, backend=backend, **options))
    torch.testing.assert_close(found, differentiate(eager_attention), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", ["custom", "triton"])
def test_compiled_code_is_one_graph_with_both_orders(backend: str) -> None:
    torch._dynamo.reset()
    case = _make("all, in a window")
    compiled = torch.compile(
        lambda *x, **options: attention(*x, backend=backend, **options), fullgraph=True, backend="eager"
    )
    expected = dict(derivative_blocks(case, eager_attention))
    for name, block in derivative_blocks(case, compiled):
        torch.testing.assert_close(block, expected.get(name, torch.zeros_like(block)))
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", ["custom", "triton"])
def test_the_third_order_of_the_log_sum_exp_raises(backend: str) -> None:
    case = build()
    _, lse = attention(case.q, case.k, case.v, backend=backend, return_lse=True)
    loss = lse.square().sum()
    for _ in range(2):
        loss = torch.autograd.grad(loss, case.q, create_graph=True)[0].square().sum()
    with pytest.raises(DerivativeOrderError, match=f"backend='{backend}' has first and second derivatives"):
        torch.autograd.grad(loss, case.q)


@pytest.mark.parametrize("backend", backend_names())
def test_a_pair_has_the_shapes_and_dtypes_of_its_inputs(backend: str) -> None:
    q = torch.randn(5, 4, dtype=torch.float16)
    out, lse = attention(q, q, q, backend=backend, return_lse=True, sinks=torch.zeros(1), alibi_slopes=torch.ones(1))
    assert (out.shape, out.dtype, lse.shape, lse.dtype) == ((5, 4), torch.float16, (5,), torch.float32)


def test_kernels_make_no_matrix_for_slopes_that_are_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    from theria.attention import alibi

    made = []
    bias = alibi._compute_bias
    monkeypatch.setattr(alibi, "_compute_bias", lambda *x: made.append(1) or bias(*x))
    q = torch.randn(1, 2, 3, 4)
    attention(q, q, q, backend="triton", alibi_slopes=torch.ones(2))
    torch.func.vmap(lambda q: attention(q, q, q, backend="triton", alibi_slopes=torch.ones(2)))(q)
    assert not made
    attention(q, q, q, backend="triton", alibi_slopes=torch.ones(2, requires_grad=True))
    assert made


@pytest.mark.parametrize("backend", ["custom", "triton"])
def test_an_unused_output_costs_the_first_order_nothing(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros for the log-sum-exp would be a launch of its own, and would send the VJP away from PyTorch's kernels."""
    engine = load_engine(backend)
    seen, vjp = [], engine.vjp
    monkeypatch.setattr(
        engine, "vjp", lambda saved, given, *x, **more: seen.append(given) or vjp(saved, given, *x, **more)
    )
    q, k, v = (torch.randn(1, 2, 3, 4, requires_grad=True) for _ in range(3))
    for with_lse in (False, True):
        out = (
            attention(q, k, v, backend=backend, return_lse=True)[0] if with_lse else attention(q, k, v, backend=backend)
        )
        assert with_lse or out.grad_fn.name() == "AttentionBackward"  # no view of it, which would be one more node
        torch.autograd.grad(out.sum(), q)
    assert [given.lse for given in seen] == [None, None]


@pytest.mark.parametrize("backend", ["custom", "triton"])
def test_the_log_sum_exp_alone_has_both_orders(backend: str) -> None:
    """Where the output is not used, its cotangent is zero."""
    q, k, v = (torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))

    def differentiate(backend: str) -> tuple[Tensor, ...]:
        lse = attention(q, k, v, backend=backend, return_lse=True)[1]
        first = torch.autograd.grad(lse.square().sum(), (q, k), create_graph=True)
        return (*first, *torch.autograd.grad(sum(g.square().sum() for g in first), (q, k)))

    torch.testing.assert_close(differentiate(backend), differentiate("reference"))
