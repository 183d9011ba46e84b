"""Sliding windows: every block on every backend is that of the same window as a mask, in an attention of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.support.attention_grid import build
from tests.support.attention_oracle import derivative_blocks, eager_attention
from theria.attention import attention, backend_names
from theria.attention.triton import blocks

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
WINDOWS = [(2, 1), (0, 0), (None, 3), (4, None), (40, 17), (33, None)]
LENGTHS = [(7, 9), (50, 21)]


def _shown(queries: int, keys: int, window: tuple[int | None, int | None]) -> torch.Tensor:
    distance = torch.arange(keys) - torch.arange(queries)[:, None]
    left, right = window
    return (distance >= (-queries if left is None else -left)) & (distance <= (keys if right is None else right))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("backend", backend_names())
def test_every_block_is_that_of_a_mask(
    backend: str, window: tuple[int | None, int | None], lengths: tuple[int, int], device: str
) -> None:
    queries, keys = lengths
    case = build(heads=2, key_heads=1, queries=queries, keys=keys).to(device)
    mask = _shown(queries, keys, window).expand(1, 1, queries, keys).to(device)
    expected = dict(derivative_blocks(replace(case, mask=mask), eager_attention))
    found = derivative_blocks(case, lambda *x, **options: attention(*x, backend=backend, window=window, **options))
    for name, block in found:
        exact = expected.get(name, torch.zeros_like(block))
        torch.testing.assert_close(block, exact, rtol=1e-9, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("lengths", "tiles"), [((70, 70), (16, 32)), ((21, 50), (32, 16))], ids=str)
@pytest.mark.parametrize("window", [(2, 1), (40, 17), (33, None), (None, 0)], ids=str)
def test_the_kernels_see_the_window_across_tiles(
    monkeypatch: pytest.MonkeyPatch,
    window: tuple[int | None, int | None],
    lengths: tuple[int, int],
    tiles: tuple[int, int],
) -> None:
    """Interpreted tiles are as large as the problem, unless they are made smaller."""
    monkeypatch.setattr(blocks, "choose_interpreted", lambda *_: blocks.Blocks(*tiles, 4, 1))
    queries, keys = lengths
    case = build(heads=2, key_heads=1, queries=queries, keys=keys)
    custom = derivative_blocks(case, lambda *x, **options: attention(*x, backend="custom", window=window, **options))
    expected = dict(custom)
    found = derivative_blocks(case, lambda *x, **options: attention(*x, backend="triton", window=window, **options))
    for name, block in found:
        torch.testing.assert_close(
            block, expected[name], rtol=1e-9, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("backend", backend_names())
def test_a_causal_window_ends_at_the_query(backend: str) -> None:
    case = build(queries=9, keys=9)
    found = attention(case.q, case.k, case.v, backend=backend, window=(3, 5), is_causal=True)
    expected = attention(case.q, case.k, case.v, backend=backend, window=(3, 0))
    torch.testing.assert_close(found, expected)


def test_a_negative_window_is_refused() -> None:
    q = torch.ones(1, 1, 2, 2)
    with pytest.raises(
        ValueError, match=r"window=\(-1, 2\): it is \(keys before, keys behind\), none of them negative"
    ):
        attention(q, q, q, window=(-1, 2))
