"""Dropout with a seed: which weights are dropped is the same in every pass, on every backend that keeps a seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.attention_grid import build
from tests.support.attention_oracle import Case, derivative_blocks, eager_attention
from theria.attention import attention
from theria.attention.canonical_problem import AttentionSettings
from theria.attention.dropout import _philox, kept_weights, with_seed

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SHARE = 0.3
SEED = 5


def _kept(case: Case) -> Tensor:
    torch.manual_seed(SEED)
    settings = with_seed(AttentionSettings(1.0, False, SHARE), case.q.device)
    kept = kept_weights(torch.Size((*case.q.shape[:3], case.k.shape[2])), settings, torch.float64)
    assert isinstance(kept, Tensor)
    return kept


def _with_seed(backend: str) -> Any:
    def run(*args: Any, **kwargs: Any) -> Tensor:
        torch.manual_seed(SEED)
        return attention(*args, backend=backend, dropout_p=SHARE, **kwargs)

    return run


def _eager(kept: Tensor) -> Any:
    """Attention that shares no code with the backends: O = (P∘Z) V, where V = 1 gives P."""

    def run(q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        identity = torch.eye(k.shape[2], dtype=k.dtype, device=k.device).expand(*k.shape[:2], -1, -1)
        weights = eager_attention(q, k, identity, **kwargs)
        return (weights * kept) @ v.repeat_interleave(groups, 1)

    return run


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", ["plain", "grouped and causal", "masked", "longer than a tile"])
@pytest.mark.parametrize("backend", ["custom", "triton"])
def test_every_block_is_that_of_the_same_weights_dropped(backend: str, shape: str, device: str) -> None:
    shapes: dict[str, dict[str, Any]] = {
        "plain": {},
        "grouped and causal": {"batch": 2, "heads": 4, "key_heads": 2, "queries": 7, "causal": True},
        "masked": {"mask": "hidden"},
        "longer than a tile": {"heads": 1, "key_heads": 1, "queries": 19, "keys": 35},
    }
    case = build(**shapes[shape]).to(device)
    expected = dict(derivative_blocks(case, _eager(_kept(case))))
    for name, block in derivative_blocks(case, _with_seed(backend)):
        exact = expected.get(name, torch.zeros_like(block))
        torch.testing.assert_close(block, exact, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("word", "first"), [(0, 0x6627E8D5), (0xFFFFFFFF, 0x408F276D)], ids=["zeros", "ones"])
def test_the_numbers_are_those_of_philox(word: int, first: int) -> None:
    """Known answers of Philox4x32-10, from the Random123 library's ``kat_vectors``."""
    words = [torch.tensor(word)] * 4
    assert int(_philox(words, torch.tensor([word, word]))) == first


def test_the_share_dropped_is_p() -> None:
    case = build(queries=200, keys=200)
    dropped = float((_kept(case) == 0).double().mean())
    assert dropped == pytest.approx(SHARE, abs=4 * (SHARE * (1 - SHARE) / 80_000) ** 0.5)


@pytest.mark.parametrize("backend", ["reference", "custom", "triton"])
def test_the_generator_decides(backend: str) -> None:
    case = build()
    first, again = (_with_seed(backend)(case.q, case.k, case.v) for _ in range(2))
    assert torch.equal(first, again)
    other = attention(case.q, case.k, case.v, backend=backend, dropout_p=SHARE)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("backend", ["reference", "custom", "triton"])
def test_all_may_be_dropped(backend: str) -> None:
    case = build()
    out = attention(case.q, case.k, case.v, backend=backend, dropout_p=1.0)
    assert not out.any()
    (gradient,) = torch.autograd.grad(out.sum(), case.q, create_graph=True)
    assert not gradient.any()


@pytest.mark.parametrize("backend", ["custom", "triton"])
def test_vmap_is_refused_by_name(backend: str) -> None:
    q = torch.randn(3, 1, 2, 4)
    with pytest.raises(ValueError, match=r"dropout_p=0.5 under vmap: backend='\w+' cannot tell"):
        torch.func.vmap(lambda x: attention(x, x, x, backend=backend, dropout_p=0.5), randomness="same")(q)


@pytest.mark.parametrize("backend", ["custom", "triton"])
def test_transforms_find_the_same_weights_dropped(backend: str) -> None:
    case = build(queries=3, keys=4)
    q, k, v = case.q.detach(), case.k.detach(), case.v.detach()
    run = _with_seed(backend)
    found = torch.func.grad(lambda x: run(x, k, v).square().sum())(q)
    kept = _kept(case)
    eager, plain = _eager(kept), {"scale": None, "is_causal": False, "attn_mask": None, "enable_gqa": False}
    expected = torch.func.grad(lambda x: eager(x, k, v, **plain).square().sum())(q)
    torch.testing.assert_close(found, expected)
