"""A backward that takes the gradient it is given for contiguous: whoever transposes the output gives it another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.report.sentences import say

SOURCE = """
import torch


class Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return (q @ k.mT).softmax(-1) @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v = ctx.saved_tensors
        b, h, n, d = g.shape
        g = g{0}.as_strided((b, h, n, d), (h * n * d, n * d, d, 1))
        p = (q @ k.mT).softmax(-1)
        dp = g @ v.mT
        ds = p * (dp - (dp * p).sum(-1, keepdim=True))
        return ds @ k, ds.mT @ q, p.mT @ g


def attention(q, k, v):
    return Rows.apply(q, k, v)
"""


@pytest.mark.parametrize(("made", "verdict"), [("", "silent_corruption"), (".contiguous()", "safe")])
def test_a_backward_is_given_a_gradient_with_its_axes_in_another_order(tmp_path: Path, made: str, verdict: str) -> None:
    result = target_of(confirm_source(tmp_path, SOURCE.replace("{0}", made)), "attention")
    assert result.verdict == verdict, say(result.reason)
