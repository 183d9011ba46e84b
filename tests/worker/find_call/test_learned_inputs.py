"""A gate is an input as much as q, k and v are: also where autograd refuses it, and q, k and v alone are fine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.confirming import confirm_source, target_of

CHUNKED = """import torch


def attention(q, k, v, {gate}):
    decay = {gate}.exp()
    state = torch.zeros(*q.shape[:3], q.shape[-1], v.shape[-1], dtype=q.dtype, device=q.device)
    for i in range(q.shape[2] - 1):
        {step}
    return torch.einsum("bhtk,bhtkv->bhtv", torch.sigmoid(q), state)
"""
NEXT = "state[:, :, i] * decay[:, :, i, :, None] + k[:, :, i, :, None] * v[:, :, i, None, :]"
IN_PLACE = f"state[:, :, i + 1] = {NEXT}"
STACKED = f"state = torch.cat((state[:, :, : i + 1], ({NEXT})[:, :, None], state[:, :, i + 2 :]), 2)"


@pytest.mark.parametrize(("step", "verdict"), [(IN_PLACE, "hard_structural"), (STACKED, "safe")])
def test_a_decay_that_is_overwritten_cannot_be_learned(tmp_path: Path, step: str, verdict: str) -> None:
    source = CHUNKED.format(gate="w", step=step)
    result = target_of(confirm_source(tmp_path, source, device="cpu"), "attention")
    assert result.verdict == verdict, result.reason
    if verdict == "safe":
        assert "w" in result.runs[0].gradients
