"""Shapes that are read off source text and error messages."""

from __future__ import annotations

import pytest

from theria.probes.layouts import Shape
from theria_lint.worker.find_call.signatures import compute_sizes, find_layout, find_shapes

DOCSTRING = '''
def gated(q, k, v, g, beta, scale=None, chunk_size=64):
    """
    Args:
        q (torch.Tensor):
            queries of shape `[B, T, H, K]`.
        g (torch.Tensor):
            log decays (in log space!) of shape `[B, T, HV]`.
        beta: write strengths, (batch, seqlen, nheads)
        scale (Optional[float]):
            Defaults to `1 / sqrt(K)`, see [1].
        bonus (torch.Tensor): of shape `[H]`
    """
    scale = q.shape[-1] if scale is None else scale
'''


def test_docstrings() -> None:
    found = find_shapes(DOCSTRING)
    assert found["q"] == ("B", "T", "H", "K")
    assert found["g"] == ("B", "T", "HV")
    assert found["beta"] == ("batch", "seqlen", "nheads")
    assert found["bonus"] == ("H",)
    assert "scale" not in found


@pytest.mark.parametrize(
    ("text", "name", "symbols"),
    [
        ('    """q, k, v (B, H, T, D); sinks (H,): learned."""\n', "k", ("B", "H", "T", "D")),
        ('    """q, k, v (B, H, T, D); sinks (H,): learned."""\n', "sinks", ("H",)),
        ('    """q, k, v: (B, H, T, D); pre, post: (H, H)."""\n', "post", ("H", "H")),
        ('    """q (B, T, H, D), kv (B, M, 2, H, D)."""\n', "q", ("B", "T", "H", "D")),
        ("    B, H, T, D = q.shape\n", "q", ("B", "H", "T", "D")),
        ("    B, T, H, K, V = *k.shape, v.shape[-1]\n", "k", ("B", "T", "H", "K")),
        ("    b, n, d = x.size()\n", "x", ("b", "n", "d")),
        ("    assert g.shape == (B, T, H)\n", "g", ("B", "T", "H")),
        ("ValueError: `readout` must have shape [H, C, C].", "readout", ("H", "C", "C")),
    ],
)
def test_code_and_complaints(text: str, name: str, symbols: tuple[str, ...]) -> None:
    assert find_shapes(text)[name] == symbols


@pytest.mark.parametrize(
    "text", ["q = rearrange(x, (3, 2))", "w (Tensor): of shape `[P, Q]`", "first(a, [0])", "x: [1]"]
)
def test_what_is_no_shape(text: str) -> None:
    assert not find_shapes(text)


@pytest.mark.parametrize(
    ("symbols", "layout"),
    [("BHTD", "bhtd"), ("BTHK", "bthd"), ("BNC", "btd"), ("TD", "td"), ("BDTH", None), ("HTD", None)],
)
def test_layouts(symbols: str, layout: str | None) -> None:
    assert find_layout(tuple(symbols)) == layout


def test_sizes() -> None:
    assert compute_sizes(("N", "H", "K", "V"), Shape(2, 3, 5, 7, 6, 6)) == (2, 3, 6, 6)
    assert compute_sizes(("B", "1", "T"), Shape(2, 3, 5, 7, 6, 6)) == (2, 1, 7)
