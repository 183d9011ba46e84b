"""A small project whose attention nobody could guess how to call, with tests that call it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tests.support.kept_workers import keep_workers
from theria_lint.cli import run_command_line

KERNELS = """
from dataclasses import dataclass
from enum import Enum

import torch
from torch import nn


class Mode(Enum):
    FULL = 1
    NONE = 2


@dataclass
class Config:
    width: int = 8
    heads: int = 2
    code: str = "x"


class WindowAttention(nn.Module):
    def __init__(self, config, *, table):
        super().__init__()
        assert config.code == "never guessed" and table.tolist() == [5, 4, 3]
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.heads = config.heads

    def forward(self, tokens, lengths, *, bias=None):
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias.detach()
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]
        return (scores.masked_fill(~mask[:, None, None], -1e9).softmax(-1) @ v).transpose(1, 2).flatten(2)


def attend(q, k, v, plan, mode):
    assert plan["kind"] == "full" and mode is Mode.FULL
    return (q @ k.transpose(-1, -2) * plan["scale"]).softmax(-1) @ v


class HalvedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, code):
        assert code == "never guessed"
        p = (q @ k.transpose(-1, -2)).softmax(-1)
        ctx.save_for_backward(q, k, v, p)
        return p @ v

    @staticmethod
    def backward(ctx, grad):
        q, k, v, p = ctx.saved_tensors
        ds = p * (grad @ v.transpose(-1, -2) - (grad * (p @ v)).sum(-1, keepdim=True))
        return ds @ k, ds.transpose(-1, -2) @ q, p.transpose(-1, -2) @ grad, None


def attention_nobody_calls(q, k, v):
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v
"""

TESTS = """
import pytest
import torch

from shop.kernels import Config, HalvedAttention, Mode, WindowAttention, attend


def test_window():
    module = WindowAttention(Config(code="never guessed"), table=torch.tensor([5, 4, 3]))
    module(torch.randn(3, 7, 8), torch.tensor([7, 3, 5]), bias=torch.randn(7, 7))


def test_attend():
    q = torch.randn(1, 2, 5, 4)
    attend(q, q, q, {"kind": "full", "scale": 0.5}, Mode.FULL)


@pytest.mark.first_order_only
def test_halved():
    q = torch.randn(1, 2, 5, 4)
    HalvedAttention.apply(q, q, q, "never guessed")
"""

CALLED = ("WindowAttention", "attend", "HalvedAttention")


def make_project(root: Path) -> Path:
    """Write the project; return its folder of calls, which is not there yet."""
    (root / "shop").mkdir()
    (root / "tests").mkdir()
    (root / "shop" / "__init__.py").write_text("")
    (root / "shop" / "kernels.py").write_text(KERNELS)
    (root / "tests" / "test_kernels.py").write_text(TESTS)
    (root / "theria-lint.toml").write_text("")
    return root / ".theria" / "calls"


def run(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=environment)


def record(root: Path, *command: str, paths: Sequence[str] = ("shop",)) -> subprocess.CompletedProcess[str]:
    """Record a command in the project."""
    return run(root, "-m", "theria_lint", "record", *paths, "--", *command)


def lint(root: Path, *options: str, paths: Sequence[str] = ("shop",)) -> dict[str, Any]:
    """The targets of a JSON report, by symbol."""
    common = ("--python", sys.executable, "--no-cache", "--output-format", "json")
    with contextlib.chdir(root), keep_workers():
        done = CliRunner().invoke(run_command_line, [*common, *options, *paths], prog_name="theria-lint")
    return {target["symbol"]: target for target in json.loads(done.stdout)["targets"]} | {"stderr": done.stderr}
