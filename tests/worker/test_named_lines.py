"""The line that is named for what raises is the user's, and none of ours that stands between."""

from __future__ import annotations

from pathlib import Path

from tests.support.confirming import confirm_source, target_of
from theria.verdicts import Ground

SOURCE = """
import torch.nn.functional as F
from torch import nn


class SomeAttention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x):
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        return getattr(F, "scaled_dot_" + "product_attention")(q, k, v)[:, 0]  # found by no rule
"""


def test_the_line_that_calls_fused_attention_is_named(tmp_path: Path) -> None:
    found = confirm_source(tmp_path, SOURCE, device="cpu")
    notes = [
        note for run in target_of(found, "SomeAttention").runs for note in run.notes if note.code == Ground.NODE_FOUND
    ]
    (line,) = [number for number, text in enumerate(SOURCE.splitlines(), 1) if "found by no rule" in text]
    assert [(note.data["file"], note.data["line"]) for note in notes][:1] == [("kernel.py", line)]
