"""What the user reads when an argument does not fit: it names the argument, and the backend that can."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from theria.attention import attention, backend_names, sdpa


def _x(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype)


Q = _x(1, 2, 3, 4)
MISFITS: dict[str, tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any], str]] = {
    "integers": ((Q.int(), Q.int(), Q.int()), {}, "q is torch.int32: attention takes float64, float32"),
    "two dtypes": ((Q, Q.half(), Q), {}, "k is torch.float16 and q is torch.float32: give q, k and v one dtype"),
    "two ranks": ((Q, Q, Q[0]), {}, "v has 3 dimensions and q has 4"),
    "a vector": ((Q[0, 0, 0],) * 3, {}, "q has shape (4,): attention takes (…, T, D)"),
    "two widths": ((Q, _x(1, 2, 3, 5), Q), {}, "q has head dimension 4 and k has 5: they must be equal"),
    "two lengths": ((Q, Q, _x(1, 2, 6, 4)), {}, "k has 3 keys and v has 6: they must be equal"),
    "heads": ((_x(1, 4, 3, 4), Q, Q), {}, "k has 2 heads beside 4: pass enable_gqa=True"),
    "groups": ((_x(1, 3, 3, 4), Q, Q), {"enable_gqa": True}, "enable_gqa=True, and k's 2 heads do not divide q's 3"),
    "batches": ((Q.expand(2, 2, 3, 4), Q.expand(3, 2, 3, 4), Q), {}, "the batch dimensions of q, k and v do not"),
    "causal and mask": ((Q, Q, Q), {"is_causal": True, "attn_mask": _x(3, 3)}, "is_causal=True and attn_mask were"),
    "mask dtype": ((Q, Q, Q), {"attn_mask": _x(3, 3, dtype=torch.int64)}, "attn_mask is torch.int64: it must be"),
    "mask shape": ((Q, Q, Q), {"attn_mask": _x(3, 5)}, "attn_mask has shape (3, 5), which does not broadcast to (1, "),
    "softcap": ((Q, Q, Q), {"softcap": 0.0}, "softcap=0.0: it is a bound of the scores, above 0; None is for none"),
    "slopes' shape": ((Q, Q, Q), {"alibi_slopes": _x(3)}, "(3,): it has a slope for each head, (2,) or (1, 2)"),
    "slopes' dtype": ((Q, Q, Q), {"alibi_slopes": _x(2).int()}, "alibi_slopes is torch.int32: it must be floating"),
    "sinks' shape": ((Q, Q, Q), {"sinks": _x(1, 2)}, "sinks has shape (1, 2): it has a logit for each head, (2,)"),
    "sinks' dtype": ((Q, Q, Q), {"sinks": _x(2).int()}, "sinks is torch.int32: it must be floating-point"),
    "sinks' device": ((Q, Q, Q), {"sinks": _x(2).to("meta")}, "sinks is on meta and q is on cpu: put it on q's device"),
    "mask rank": ((Q, Q, Q), {"attn_mask": _x(1, 1, 1, 3, 3)}, "attn_mask has shape (1, 1, 1, 3, 3), which does not"),
}  # fmt: skip


@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.parametrize("backend", backend_names())
def test_misfits_are_refused_by_name(backend: str, misfit: str) -> None:
    tensors, options, message = MISFITS[misfit]
    with pytest.raises(ValueError, match=re.escape(message)):
        attention(*tensors, backend=backend, **options)


def test_unknown_backend() -> None:
    message = "backend='flash' is unknown: the backends are reference, custom, triton"
    with pytest.raises(ValueError, match=message):
        attention(Q, Q, Q, backend="flash")
    with pytest.raises(ValueError, match=message):
        sdpa("flash")


def test_scale_is_no_tensor() -> None:
    with pytest.raises(TypeError, match=r"scale is a tensor.*: multiply q by it and pass scale=1\.0"):
        attention(Q, Q, Q, scale=torch.tensor(1.0))  # type: ignore[arg-type]


def test_softcap_is_no_tensor() -> None:
    with pytest.raises(TypeError, match="softcap is a tensor, which no backend differentiates: pass a number"):
        attention(Q, Q, Q, softcap=torch.tensor(1.0))  # type: ignore[call-overload]


def test_dropout() -> None:
    with pytest.raises(ValueError, match=r"dropout_p=2: it is a probability"):
        attention(Q, Q, Q, dropout_p=2)


def test_triton_says_who_has_wide_heads_and_empty_tensors() -> None:
    wide = _x(1, 1, 2, 257)
    with pytest.raises(
        ValueError, match=r"q has head dimension 257: backend='triton' goes up to 256 .*'custom' has no limit"
    ):
        attention(wide, wide, wide, backend="triton")
    assert attention(wide, wide, wide, backend="custom").shape == wide.shape
    with pytest.raises(ValueError, match=r"k has shape \(1, 2, 0, 4\): backend='triton' takes no empty tensors"):
        attention(Q, Q[:, :, :0], Q[:, :, :0], backend="triton")


@pytest.mark.parametrize("backend", ["reference", "custom"])
def test_no_keys_and_no_queries(backend: str) -> None:
    assert not attention(Q, Q[:, :, :0], Q[:, :, :0], backend=backend).any()
    assert attention(Q[:, :, :0], Q, Q, backend=backend).shape == (1, 2, 0, 4)


def test_triton_is_imported_when_it_is_first_used() -> None:
    code = """
import os, sys, torch
from theria.attention import attention
x = torch.ones(1, 1, 2, 2)
attention(x, x, x, backend="custom")
assert "triton" not in sys.modules
environment = dict(os.environ)
attention(x, x, x, backend="triton")
assert "triton" in sys.modules and dict(os.environ) == environment
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_triton_that_is_missing_is_named() -> None:
    code = """
import sys, torch
sys.modules["triton"] = None
from theria.attention import attention
x = torch.ones(1, 1, 2, 2)
try:
    attention(x, x, x, backend="triton")
except ValueError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "backend='triton' needs the package triton: install it, or pass backend='custom'\n"
