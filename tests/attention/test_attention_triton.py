"""What is particular to the triton backend on the CPU: the interpreter, chosen at launch, and memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from triton.runtime.jit import JITFunction

from tests.support.attention_grid import build
from theria.attention import attention
from theria.attention.triton import kernel


class _Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation returns."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.size = max(
            [self.size, *(x.untyped_storage().nbytes() for x in tree_leaves(result) if isinstance(x, Tensor))]
        )
        return result


def _second_order(backend: str, *, length: int, mask: str = "none") -> None:
    case = build(heads=1, key_heads=1, queries=length, keys=length, width=2, value_width=2, mask=mask)
    out = attention(case.q, case.k, case.v, backend=backend, attn_mask=case.mask)
    gradients = torch.autograd.grad((out * case.w).sum(), (case.q, case.k, case.v), create_graph=True)
    torch.autograd.grad(gradients, (case.q, case.k, case.v, case.w), gradients)


def test_no_tensor_of_queries_by_keys_is_made() -> None:
    length, rows, scores = 40, 40 * 2 * 8, 40 * 40 * 8
    with _Largest() as triton_backend:
        _second_order("triton", length=length)
    with _Largest() as custom_backend:
        _second_order("custom", length=length)
    assert triton_backend.size <= rows < scores <= custom_backend.size


@pytest.mark.usefixtures("small_tiles")
def test_small_tiles_are_what_the_interpreter_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = set()
    run = kernel.Kernel.run

    def watch(self: kernel.Kernel, *args: Any, **kwargs: Any) -> Any:
        sizes.add((kwargs["BLOCK_T"], kwargs["BLOCK_M"]))
        return run(self, *args, **kwargs)

    monkeypatch.setattr(kernel.Kernel, "run", watch)
    _second_order("triton", length=17)
    assert sizes == {(16, 32)}


def test_a_kernel_of_the_user_stays_compiled() -> None:
    _second_order("triton", length=3)

    @triton.jit
    def users_kernel(x):  # type: ignore[no-untyped-def]
        tl.store(x, 1)

    assert isinstance(users_kernel, JITFunction)
    with pytest.raises(RuntimeError, match="outside of the scope of a kernel"):
        tl.sum(None, 0)


def test_the_language_is_left_as_it_was() -> None:
    before = {name: getattr(tl, name) for name in dir(tl)}
    index = tl.tensor.__dict__.get("__index__")
    _second_order("triton", length=3)
    assert {name: getattr(tl, name) for name in dir(tl)} == before
    assert tl.tensor.__dict__.get("__index__") is index


def test_the_language_is_left_as_it_was_after_an_error() -> None:
    @kernel.Kernel
    def broken(x):  # type: ignore[no-untyped-def]
        tl.load(x + tl.no_such_function(0))

    load = tl.load
    with pytest.raises(Exception, match="no_such_function"):
        broken[(1,)](torch.zeros(1))
    assert tl.load is load


def test_the_interpreter_still_multiplies_bfloat16_as_raw_bits() -> None:
    """The reason for ``operand`` to widen bfloat16: when this fails, it need not any more."""

    @kernel.Kernel
    def product(x, y):  # type: ignore[no-untyped-def]
        offsets = tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
        tile = tl.load(x + offsets)
        tl.store(y + offsets, tl.dot(tile, tile))

    identity, result = torch.eye(16, dtype=torch.bfloat16), torch.empty(16, 16)
    product[(1,)](identity, result)
    assert not torch.equal(result, identity.float())


def test_bfloat16_agrees_with_float32() -> None:
    q, k, v = (torch.randn(1, 1, 20, 16).bfloat16() for _ in range(3))
    found = attention(q, k, v, backend="triton")
    expected = attention(q.float(), k.float(), v.float(), backend="triton")
    torch.testing.assert_close(found.float(), expected, rtol=2**-8, atol=0)
