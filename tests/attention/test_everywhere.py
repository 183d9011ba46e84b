"""A backend for all code that runs in a block, and what "auto" chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention as imported_by_name
from torch.utils.checkpoint import checkpoint

from theria.attention import attention, everywhere, executed_backends, sdpa
from theria.attention.auto_backend import choose_backend
from theria.attention.canonical_problem import canonical

BUILTIN = functional.scaled_dot_product_attention


def _x(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


def _run_multihead(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    out: Tensor = layer(x, x, x, need_weights=False)[0]
    return out


def _run_encoder(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    out: Tensor = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dtype=torch.float64)(x)
    return out


def _run_checkpoint(x: Tensor) -> Tensor:
    out: Tensor = checkpoint(lambda x: functional.scaled_dot_product_attention(x, x, x), x, use_reentrant=False)
    return out


CALLERS: dict[str, Callable[[Tensor], Tensor]] = {
    "attribute": lambda x: functional.scaled_dot_product_attention(x, x, x),
    "name": lambda x: imported_by_name(x, x, x),
    "torch._C": lambda x: torch._C._nn.scaled_dot_product_attention(x, x, x),
    "multi-head": _run_multihead,
    "encoder layer with dropout": _run_encoder,
    "checkpoint": _run_checkpoint,
}


@pytest.mark.parametrize("caller", CALLERS)
def test_every_call_is_computed_by_the_backend_and_is_twice_differentiable(caller: str) -> None:
    x = _x(2, 5, 4)
    with executed_backends() as names, everywhere("reference"):
        (gradient,) = torch.autograd.grad(CALLERS[caller](x).square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert names
    assert set(names) == {"reference"}
    assert second.abs().max() > 0


@pytest.mark.parametrize("caller", ["attribute", "name", "multi-head"])
def test_its_values_are_those_of_pytorch(caller: str) -> None:
    x = _x(2, 5, 4)
    expected = CALLERS[caller](x)
    for backend in ("reference", "custom", "auto"):
        with everywhere(backend):
            torch.testing.assert_close(CALLERS[caller](x), expected)


def test_other_threads_and_what_comes_after_see_pytorchs_own() -> None:
    x, found = _x(2, 5, 4), []

    def call() -> None:
        with executed_backends() as names:
            CALLERS["attribute"](x)
            CALLERS["multi-head"](x)
            found.extend(names)

    with everywhere("reference"):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    call()
    assert found == []
    assert functional.scaled_dot_product_attention is BUILTIN


def test_blocks_nest_and_end_with_an_error() -> None:
    x = _x(2, 5, 4)
    with executed_backends() as names:
        with everywhere("custom"):
            with everywhere("reference"):
                CALLERS["multi-head"](x)
            with pytest.raises(ZeroDivisionError), everywhere("reference"):
                raise ZeroDivisionError
            CALLERS["multi-head"](x)
        CALLERS["multi-head"](x)
    assert names == ["reference", "custom"]
    assert functional.scaled_dot_product_attention is BUILTIN
    with pytest.raises(ValueError, match="backend='flash' is unknown"), everywhere("flash"):
        pass


def test_what_another_tool_put_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    x, calls = _x(2, 5, 4), []

    def count(*args: Tensor) -> Tensor:
        calls.append(1)
        return BUILTIN(*args)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", count)
    with executed_backends() as names, everywhere("reference"):
        CALLERS["attribute"](x)
    CALLERS["attribute"](x)
    assert (names, len(calls)) == (["reference"], 2)


def test_compiled_code_is_computed_by_the_backend() -> None:
    x = _x(2, 5, 4)
    graphs: list[str] = []

    def keep_graph(module: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(str(module.graph))
        return module.forward

    compiled = torch.compile(CALLERS["attribute"], fullgraph=True, backend=keep_graph)
    expected = CALLERS["attribute"](x)
    with everywhere("reference"):
        torch.testing.assert_close(compiled(x), expected)
    inside = graphs.pop()
    assert "softmax" in inside
    assert "scaled_dot_product_attention" not in inside
    torch.testing.assert_close(compiled(x), expected)  # the other graph is not used outside
    assert "scaled_dot_product_attention" in graphs.pop()


def test_compiled_multi_head_attention_is_computed_by_the_backend_beside_the_graph() -> None:
    x = _x(2, 5, 4)
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)

    def run(x: Tensor) -> Tensor:
        out: Tensor = layer(x, x, x, need_weights=False)[0]
        return out

    with everywhere("reference"), executed_backends() as names:
        torch.testing.assert_close(torch.compile(run, backend="eager")(x), run(x))
        assert names == ["reference", "reference"]


def test_dropout_draws_as_eager_code_does_and_has_its_derivatives() -> None:
    q, k, v = _x(1, 2, 3, 4), _x(1, 2, 5, 4), _x(1, 2, 5, 3)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(3)
        return attention(q, k, v, dropout_p=0.4)

    def write_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(3)
        return torch.dropout(torch.softmax(q @ k.mT / 2, -1), 0.4, True) @ v

    torch.testing.assert_close(attend(q, k, v), write_out(q, k, v))
    assert not torch.allclose(attend(q, k, v), attention(q, k, v))
    assert torch.autograd.gradcheck(attend, (q, k, v))
    assert torch.autograd.gradgradcheck(attend, (q, k, v))
    torch.testing.assert_close(attention(q, k, v, dropout_p=1.0), torch.zeros(1, 2, 3, 3, dtype=torch.float64))


def test_auto_chooses_eager_attention_on_the_cpu() -> None:
    x = _x(1, 2, 5, 4)
    with executed_backends() as names:
        sdpa("auto")(x, x, x, dropout_p=0.1)
        attention(x, x, x, backend="auto", is_causal=True)
    assert names == ["reference", "reference"]


@pytest.mark.gpu
def test_auto_chooses_the_kernels_on_a_gpu_where_they_are_faster_or_all_that_fits() -> None:
    def choose(length: int, dtype: torch.dtype, width: int = 64, dropout_p: float = 0.0, heads: int = 8) -> str:
        x = torch.empty(4, heads, length, width, dtype=dtype, device="cuda")
        return choose_backend(
            canonical(x, x, x, scale=None, is_causal=False, attn_mask=None, enable_gqa=False, dropout_p=dropout_p)
        )

    assert choose(2048, torch.bfloat16) == "triton"
    assert choose(128, torch.bfloat16) == "reference"
    assert choose(2048, torch.float32) == "triton"
    assert choose(1024, torch.float32) == "reference"
    assert choose(2048, torch.float32, width=256) == "reference"
    assert choose(65536, torch.float32, heads=1) == "triton"
    assert choose(2048, torch.bfloat16, width=512) == "reference"
    assert choose(2048, torch.bfloat16, dropout_p=0.1) == "triton"
