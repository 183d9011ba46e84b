"""Which lines a GPU alone leads to, by the text."""

from __future__ import annotations

import pytest

from theria_lint.confirm.coverage_map import asks_for_gpu

SOURCE = """import torch
HAS_CUDA = torch.cuda.is_available()


def attention(q, k, v, causal):
    if causal:
        a = 1  # by an argument
    if torch.cuda.is_available():
        b = 1  # GPU
    if HAS_CUDA and causal:
        c = 1  # GPU
    if q.is_cuda:
        d = 1  # GPU
    else:
        e = 1  # GPU
    for head in range(3):
        if q.device.type != "cuda":
            continue
        f = 1  # GPU
    if not q.is_cuda:
        return v  # GPU
    return q  # GPU
"""


@pytest.mark.parametrize("line", range(6, SOURCE.count("\n") + 1))
def test_a_line_is_for_a_gpu_if_a_condition_on_its_way_asks_for_one(line: int) -> None:
    text = SOURCE.split("\n")[line - 1]
    if ("=" in text and "#" in text) or "return" in text:
        assert asks_for_gpu(SOURCE, line) == text.endswith("# GPU"), text


def test_what_does_not_parse_asks_for_nothing() -> None:
    assert not asks_for_gpu("if torch.cuda.is_available(:\n", 1)
