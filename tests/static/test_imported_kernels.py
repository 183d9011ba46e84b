"""A file that calls a kernel which it imports is looked at, whether or not it says torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lint_case import Lint
from theria_lint.sources.source_text import may_hold_targets

FLASH = """from flash_attn import flash_attn_func


def attention(q, k, v, causal=False):
    return flash_attn_func(q, k, v, causal=causal)
"""
OWN = """from kernels_of_ours import fused


def attend(query, key, value, scale=None):
    return fused(query, key, value, scale)
"""
NUMPY = """import numpy as np


def attention(q, k, v):
    return q @ k.T @ v
"""


def test_a_known_kernel_is_a_suspect_without_running_anything(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(FLASH)
    assert "THL008" in lint("--no-confirm", "kernel.py").stdout


@pytest.mark.parametrize("source", [FLASH, OWN], ids=["known", "unknown"])
def test_a_function_around_a_kernel_that_is_missing_says_so(lint: Lint, folder: Path, source: str) -> None:
    (folder / "kernel.py").write_text(source)
    result = lint("kernel.py", confirm=True)
    assert "inconclusive" in result.stdout
    assert "is missing" in result.stdout


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (FLASH, True),
        (OWN, True),
        (NUMPY, False),
        ("def f(self, xq, xk, xv): ...", True),
        ("def f(\n    q_states,\n    k_states,\n    v_states,\n): ...", True),
        ("def quit(kind, value): ...", False),
        ("def f(v, k, q): ...", False),
    ],
)
def test_what_may_hold_targets(source: str, expected: bool) -> None:
    assert may_hold_targets(source.encode()) is expected
