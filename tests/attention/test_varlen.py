"""Packed sequences: every block is that of attention written out for each sequence alone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.attention_grid import build
from tests.support.attention_oracle import Case, derivative_blocks, eager_attention
from theria.attention import attention, backend_names, varlen_attention

STARTS, KEY_STARTS = [0, 3, 3, 5], [0, 2, 4, 8]
SLOPES = torch.tensor([0.3, -0.2], dtype=torch.float64)
SINKS = torch.tensor([0.5, -1.0], dtype=torch.float64).requires_grad_()
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "in a window": {"window": (2, 1)},
    "with all else": {"softcap": 1.1, "alibi_slopes": SLOPES, "sinks": SINKS},
}

#: Triton's interpreter, which is slow, is given the last alone; a GPU is given all.
RUNS = [
    pytest.param(backend, name, device, marks=[pytest.mark.gpu] if device == "cuda" else [])
    for backend in backend_names()
    for name in OPTIONS
    for device in ("cpu", "cuda")
    if backend != "triton" or device == "cuda" or name == "with all else"
]


def _make(options: dict[str, Any]) -> Case:
    """A case whose batch is 1: the sequences lie end to end."""
    case = build(heads=2, key_heads=1, queries=STARTS[-1], keys=KEY_STARTS[-1])
    tensors = {name: x for name, x in options.items() if isinstance(x, Tensor)}
    u = torch.linspace(-1, 1, case.w[..., 0].numel(), dtype=torch.float64).reshape(case.w.shape[:-1])
    return replace(case, options=tensors, u=u.requires_grad_())


def _pack(x: Tensor) -> Tensor:
    return x[0].transpose(0, 1)


def _run_packed(backend: str, settings: dict[str, Any]) -> Any:
    def run(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        tensors = {name: options[name] for name in ("alibi_slopes", "sinks") if name in options}
        starts, key_starts = (torch.tensor(x, dtype=torch.int32, device=q.device) for x in (STARTS, KEY_STARTS))
        out, lse = varlen_attention(
            *map(_pack, (q, k, v)), starts, key_starts, backend=backend, return_lse=True, **settings, **tensors
        )
        return out.transpose(0, 1)[None], lse.transpose(0, 1)[None]

    return run


def _run_alone(settings: dict[str, Any]) -> Any:
    """Each sequence by itself; its last query stands beside its last key."""

    def run(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        pairs = []
        for i in range(len(STARTS) - 1):
            rows, keys = slice(*STARTS[i : i + 2]), slice(*KEY_STARTS[i : i + 2])
            queries, count = rows.stop - rows.start, keys.stop - keys.start
            places = torch.arange(count - queries, count, device=q.device)[:, None]
            key_places = torch.arange(count, device=q.device)
            left, right = settings.get("window", (100, 100))
            right = 0 if settings.get("is_causal") else right
            shown = (key_places >= places - left) & (key_places <= places + right)
            given = {**options, "is_causal": False, "attn_mask": shown, "softcap": settings.get("softcap")}
            pairs.append(eager_attention(q[:, :, rows], k[:, :, keys], v[:, :, keys], **given))
        out, lse = zip(*pairs, strict=True)
        return torch.cat(out, 2), torch.cat(lse, 2)

    return run


@pytest.mark.parametrize(("backend", "name", "device"), RUNS)
def test_every_block_is_that_of_each_sequence_alone(backend: str, name: str, device: str) -> None:
    settings = {key: x for key, x in OPTIONS[name].items() if not isinstance(x, Tensor)}
    case = _make(OPTIONS[name]).to(device)
    expected = dict(derivative_blocks(case, _run_alone(settings)))
    for block, tensor in derivative_blocks(case, _run_packed(backend, settings)):
        exact = expected.get(block, torch.zeros_like(tensor))
        torch.testing.assert_close(
            tensor, exact, rtol=1e-9, atol=1e-10, msg=lambda text, block=block: f"{block}: {text}"
        )


def test_one_sequence_is_attention() -> None:
    case = build(queries=5, keys=5)
    packed = [_pack(x) for x in (case.q, case.k, case.v)]
    found = varlen_attention(*packed, torch.tensor([0, 5]), is_causal=True)
    torch.testing.assert_close(found, _pack(attention(case.q, case.k, case.v, is_causal=True)))


@pytest.mark.parametrize("backend", backend_names())
def test_nothing_at_all_is_packed(backend: str) -> None:
    x = torch.ones(0, 2, 4)
    assert varlen_attention(x, x, x, torch.tensor([0, 0, 0]), backend=backend).shape == (0, 2, 4)


X = torch.ones(5, 2, 4)
MISFITS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "start": ((X, X, X, torch.tensor([1, 5])), {}, "cu_seqlens_q is [1, 5]: it must start at 0, never fall"),
    "fall": ((X, X, X, torch.tensor([0, 4, 3, 5])), {}, "cu_seqlens_q is [0, 4, 3, 5]: it must start at 0, never fall"),
    "end": ((X, X, X, torch.tensor([0, 4])), {}, "it must start at 0, never fall, and end at q's 5 rows"),
    "of the keys": ((X, X, X, torch.tensor([0, 5]), torch.tensor([0, 6])), {}, "cu_seqlens_k is [0, 6]: it must start"),
    "long": ((X, X, X, torch.arange(9)), {}, "cu_seqlens_q is [0, 1, 2, 3, …, 8]: it must start at 0"),
    "dtype": ((X, X, X, torch.tensor([0.0, 5.0])), {}, "cu_seqlens_q is torch.float32 of shape (2,): it must be int32"),
    "two counts": ((X, X, X, torch.tensor([0, 5]), torch.tensor([0, 2, 5])), {}, "cu_seqlens_q has 1 sequences and"),
    "shape": ((X[0], X, X, torch.tensor([0, 5])), {}, "q has shape (2, 4): packed sequences are (total, heads, head"),
    "keys": ((X, X[:3], X[:3], torch.tensor([0, 5])), {}, "k has 3 rows and q has 5: pass cu_seqlens_k"),
    "values": ((X, X, X[:3], torch.tensor([0, 5])), {}, "k has 5 keys and v has 3: they must be equal"),
    "longest": ((X, X, X, torch.tensor([0, 5])), {"max_seqlen_q": 4}, "max_seqlen_q=4, and the longest sequence has 5"),
    "mask": ((X, X, X, torch.tensor([0, 5])), {"attn_mask": X}, "attn_mask was given with cu_seqlens_q"),
}  # fmt: skip


@pytest.mark.parametrize("misfit", MISFITS)
def test_misfits_are_refused_by_name(misfit: str) -> None:
    arguments, options, message = MISFITS[misfit]
    with pytest.raises(ValueError, match=re.escape(message)):
        varlen_attention(*arguments, **options)
