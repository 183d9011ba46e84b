"""``theria-lint diagnose``: what a user types, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = """
import torch
from torch import nn

class Attention(nn.Module):
    def forward(self, x):
        return (x @ x.transpose(-1, -2)).softmax(-1).detach() @ x

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), Attention()), torch.randn(2, 3, 4)

def build_sound():
    return nn.Linear(4, 4), {"input": torch.randn(2, 4)}

def build_nothing():
    return 3

def build_badly():
    raise ValueError("no weights")

def build_misfit():
    return nn.Linear(4, 4), torch.randn(2, 3)
"""


def diagnose(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "shop").mkdir(exist_ok=True)
    (folder / "shop" / "models.py").write_text(MODEL)
    command = [sys.executable, "-m", "theria_lint", "diagnose", "--python", sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_culprit_is_named(tmp_path: Path) -> None:
    done = diagnose(tmp_path, "shop.models:build")
    assert done.returncode == 1, done.stderr
    assert "culprit: 1: Attention" in done.stdout
    assert done.stderr == ""


def test_a_sound_model_exits_with_0_and_json_is_json(tmp_path: Path) -> None:
    done = diagnose(tmp_path, "shop.models:build_sound", "--output-format", "json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (0, "safe")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shop.models", "names no function; write package.module:function."),
        ("shop.nowhere:build", "shop.nowhere: cannot be imported: ModuleNotFoundError: No module named"),
        ("shop.models:builds", "there is no function builds in shop.models."),
        ("shop.models:build_nothing", "returns no model with its inputs; return (model, inputs)"),
        ("shop.models:build_badly", "fails: ValueError: no weights."),
        ("shop.models:build_misfit", "the model fails: RuntimeError: "),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, name: str, said: str) -> None:
    done = diagnose(tmp_path, name)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_interpreter_that_is_not_there_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "theria_lint", "diagnose", "a:b", "--python", "/nowhere/python"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "/nowhere/python: no such interpreter" in done.stderr
