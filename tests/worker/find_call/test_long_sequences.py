"""What is carried from chunk to chunk shows only where a sequence is longer than a chunk."""

from __future__ import annotations

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.confirm.confirm import Confirmation

SOURCE = """
import torch


def chunked_attention(q, k, v):
    outputs, state = [], 0
    for start in range(0, q.shape[-2], 64):
        a, b, c = (x[..., start : start + 64, :] for x in (q, k, v))
        outputs.append((a @ b.mT).tril() @ c + (a @ state if start else 0))
        state = state + b.mT @ c
    return torch.cat(outputs, -2)


def detached_carry_attention(q, k, v):
    outputs, state = [], 0
    for start in range(0, q.shape[-2], 64):
        a, b, c = (x[..., start : start + 64, :] for x in (q, k, v))
        outputs.append((a @ b.mT).tril() @ c + (a @ state if start else 0))
        state = state + (b.mT @ c).detach()
    return torch.cat(outputs, -2)


def kinked_attention(q, k, v):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return torch.sigmoid(scores - scores.amax(-1, keepdim=True)) @ v


def whole_chunks_attention(q, k, v):
    size = min(128, q.shape[-2])
    assert q.shape[-2] % size == 0
    q, k, v = (x.unflatten(-2, (-1, size)) for x in (q, k, v))
    state = (k.mT @ v).cumsum(-3).roll(1, -3).detach().clone()
    state[..., 0, :, :] = 0
    return ((q @ k.mT).tril() @ v + q @ state).flatten(-3, -2)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("long"), SOURCE)


@pytest.mark.parametrize(
    ("symbol", "verdict"),
    [
        ("chunked_attention", "safe"),
        ("kinked_attention", "safe"),
        ("detached_carry_attention", "silent_corruption"),
        ("whole_chunks_attention", "silent_corruption"),
    ],
)
def test_the_verdict_sees_more_than_one_chunk(found, symbol, verdict):
    assert target_of(found, symbol).verdict == verdict


def test_the_detached_carries_are_to_blame(found):
    assert {f.suspect.symbol: f.disposition for f in found.findings} == {
        "detached_carry_attention": "confirmed",
        "whole_chunks_attention": "confirmed",
    }
