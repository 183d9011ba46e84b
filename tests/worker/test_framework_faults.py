"""What PyTorch computes wrongly is not blamed on the code that calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.confirming import confirm_source, target_of
from theria_lint.reasons import ReasonCode

SOURCE = """
import torch
from torch import nn


class LambdaAttention(nn.Module):
    def __init__(self, dim=8, heads=2, key_dim=4, radius=3):
        super().__init__()
        self.heads, self.key_dim, self.value_dim = heads, key_dim, dim // heads
        self.qkv = nn.Conv2d(dim, heads * key_dim + key_dim + self.value_dim, 1, bias=False)
        self.norm_q = nn.BatchNorm2d(heads * key_dim)
        self.norm_v = nn.BatchNorm2d(self.value_dim)
        self.near = nn.Conv3d(1, key_dim, (radius, radius, 1), padding=(radius // 2, radius // 2, 0))

    def forward(self, x):
        b, _, h, w = x.shape
        q, k, v = self.qkv(x).split([self.heads * self.key_dim, self.key_dim, self.value_dim], 1)
        q = self.norm_q(q).reshape(b, self.heads, self.key_dim, h * w).transpose(-1, -2)
        v = self.norm_v(v).reshape(b, self.value_dim, h * w).transpose(-1, -2)
        k = k.reshape(b, self.key_dim, h * w).softmax(-1)
        content = q @ (k @ v).unsqueeze(1)
        places = self.near(v.reshape(b, 1, h, w, self.value_dim))
        places = places.reshape(b, 1, self.key_dim, h * w, self.value_dim).transpose(2, 3)
        out = content + (q.unsqueeze(-2) @ places).squeeze(-2)
        return out.transpose(-1, -2).reshape(b, -1, h, w)
"""


def _is_wrong_here() -> bool:
    """Whether this PyTorch gives a wrong gradient for the module at a batch of one."""
    names: dict[str, type] = {}
    exec(SOURCE, names)
    torch.manual_seed(0)
    module = names["LambdaAttention"]().double()
    x, step = torch.randn(1, 8, 4, 4, dtype=torch.float64, requires_grad=True), torch.randn(1, 8, 4, 4).double()
    weights = torch.randn(1, 8, 4, 4, dtype=torch.float64)
    (g,) = torch.autograd.grad((weights * module(x)).sum(), x)
    difference = (weights * (module(x + 1e-5 * step) - module(x - 1e-5 * step))).sum() / 2e-5
    return abs(float(((g * step).sum() - difference).detach())) > 1e-3


def test_a_module_that_pytorch_differentiates_wrongly_is_safe_and_the_note_says_why(tmp_path: Path) -> None:
    if not _is_wrong_here():
        pytest.skip("this release of PyTorch differentiates it rightly")
    run = target_of(confirm_source(tmp_path, SOURCE, device="cpu"), "LambdaAttention").runs[0]
    assert run.verdict == "safe"
    assert any(note.code == ReasonCode.TORCH_BUG for note in run.notes)
