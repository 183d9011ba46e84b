"""Code that PyTorch gives to its math path on a CPU is not said to be free of what a fused kernel would do."""

from __future__ import annotations

from pathlib import Path

from tests.support.confirming import confirm_source, target_of
from theria_lint.report.sentences import compose_message, say

SOURCE = """
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def wide_attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, torch.cat([v, v], -1))[..., : q.shape[-1]]


def padded_attention(q, k, v):
    if q.shape[-1] % 16:
        q, k = F.pad(q, (0, 1)), F.pad(k, (0, 1))
    return F.scaled_dot_product_attention(q, k, v, scale=v.shape[-1] ** -0.5)


def explicit_attention(q, k, v):
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v)
"""


def test_the_math_path_clears_nothing_and_other_sizes_are_tried(tmp_path: Path) -> None:
    found = confirm_source(tmp_path, SOURCE, device="cpu")
    wide, padded = found.findings
    assert (wide.suspect.symbol, wide.disposition) == ("wide_attention", "unconfirmed")
    assert "PyTorch took its math path" in say(wide.reason)
    assert "--device cuda" in compose_message(wide.reason).helps[0]
    assert (padded.suspect.symbol, padded.disposition) == ("padded_attention", "confirmed")
    assert target_of(found, "padded_attention").verdict == "first_order_only"
    assert target_of(found, "explicit_attention").runs[0].notes[1:] == ()
