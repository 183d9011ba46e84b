"""Interpreted kernels that read or return what nobody wrote: garbage is never judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.report.sentences import say
from theria_lint.worker.triton_interpreter.bounds import MemoryBounds

pytest.importorskip("triton")

KERNEL = """import torch
import triton
import triton.language as tl


@triton.jit
def linear_kernel(q, s, o, T, D: tl.constexpr, BT: tl.constexpr):
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    d = tl.arange(0, D)
    at = t[:, None] * D + d[None, :]
    a = tl.load(q + at, {mask})
    b = tl.load(s + d[:, None] * D + d[None, :])
    tl.store(o + at, tl.dot(a, b), {mask})


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, s):
        ctx.save_for_backward(q, s)
        o = torch.empty_like(q)
        B, H, T, D = q.shape
        for b in range(B):
            for h in range(H):
                linear_kernel[({programs},)](q[b, h], s[b, h], o[b, h], T, D=D, BT=8)
        return o

    @staticmethod
    def backward(ctx, do):
        q, s = ctx.saved_tensors
        return do @ s.mT, q.mT @ do


def attention(q, k, v):
    assert q.is_cuda and q.shape == k.shape
    return Linear.apply(q.contiguous(), (k.mT @ v).contiguous())
"""


def verdict(folder: Path, mask: str, programs: str) -> tuple[str, str]:
    source = KERNEL.replace("{mask}", mask).replace("{programs}", programs)
    result = target_of(confirm_source(folder, source, device="cpu"), "attention")
    return str(result.verdict), say(result.reason)


def test_a_kernel_that_minds_its_bounds_is_judged(tmp_path: Path) -> None:
    found, reason = verdict(tmp_path, "t[:, None] < T", "triton.cdiv(T, 8)")
    assert found == "safe", reason


def test_a_kernel_that_leaves_rows_unwritten_is_not_judged_by_them(tmp_path: Path) -> None:
    found, reason = verdict(tmp_path, "t[:, None] < T - 1", "triton.cdiv(T, 8)")
    assert found == "inconclusive"
    assert "memory that they have not written" in reason


def test_a_kernel_that_reads_beyond_its_tensors_at_every_size_is_not_judged(tmp_path: Path) -> None:
    found, reason = verdict(tmp_path, "t[:, None] < T + 1000", "triton.cdiv(T, 8) + 1")
    assert found == "inconclusive"
    assert "outside the tensors that it was given" in reason


ALL = np.array([True, True])


@pytest.mark.parametrize(
    ("pointers", "mask", "held"),
    [
        ([100, 196], ALL, True),
        ([100, 197], ALL, False),
        ([96, 100], ALL, False),
        ([100, 300], ALL, True),
        ([100, 250], ALL, False),
        ([100, 250], np.array([True, False]), True),
        ([0, 0], np.array([False, False]), True),
    ],
)
def test_bounds(pointers: list[int], mask: np.ndarray, held: bool) -> None:
    """Two tensors of 100 bytes: pointers to four bytes each belong to one of them as a whole."""
    bounds = MemoryBounds([(300, 400), (100, 200)])
    assert bounds.holds_pointers(np.array(pointers, dtype=np.uint64), mask, 4) is held


def test_a_kernel_without_tensors_owns_nothing() -> None:
    assert not MemoryBounds([]).holds_pointers(np.array([8], dtype=np.uint64), np.array([True]), 4)
