"""A mask that has to be given, if only None: what a real one does is measured beside."""

from __future__ import annotations

from pathlib import Path

from tests.support.confirming import confirm_source, finding_of, target_of

MASKED = """
from torch import nn


class MaskedAttention(nn.Module):
    def __init__(self, dim=12):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)

    def forward(self, x, *, mask):
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(-2, -1) / 3
        if mask is not None:
            scores = scores.masked_fill(~(mask[:, :, None] & mask[:, None, :]), -1e9).detach()
        return scores.softmax(-1) @ v
"""


def test_a_branch_behind_a_mask_that_may_be_none_is_reached(tmp_path: Path) -> None:
    found = confirm_source(tmp_path, MASKED)
    assert target_of(found, "MaskedAttention").verdict.unsafe
    assert finding_of(found, "THL002").disposition == "confirmed"
