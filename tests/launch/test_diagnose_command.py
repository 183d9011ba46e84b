"""``theria-lint diagnose``: what a user types, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from theria.diagnosis.__main__ import main

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


def write_models(folder: Path) -> None:
    (folder / "shop").mkdir()
    (folder / "shop" / "models.py").write_text(MODEL)


def diagnose(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    write_models(folder)
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


BAD = {
    "shop.models": "names no function; write package.module:function.",
    "shop.nowhere:build": "shop.nowhere: cannot be imported: ModuleNotFoundError: No module named",
    "shop.models:builds": "there is no function builds in shop.models.",
    "shop.models:build_nothing": "returns no model with its inputs; return (model, inputs)",
    "shop.models:build_badly": "fails: ValueError: no weights.",
    "shop.models:build_misfit": "the model fails: RuntimeError: ",
}


def check_sentence(code: int, stdout: str, stderr: str, said: str) -> None:
    assert code == 2
    assert stdout == ""
    assert stderr.startswith("Error: ")
    assert said in stderr
    assert len(stderr.splitlines()) == 1


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """In this process: the command hands on what the module says."""
    write_models(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("shop", "shop.models"):  # each test has its own, and leaves none
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
        del sys.modules[module]
    code = main([name])
    check_sentence(code, *capsys.readouterr(), BAD[name])


def test_the_command_hands_on_what_is_wrong(tmp_path: Path) -> None:
    name = "shop.models:build_misfit"
    done = diagnose(tmp_path, name)
    check_sentence(done.returncode, done.stdout, done.stderr, BAD[name])


def test_an_interpreter_that_is_not_there_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "theria_lint", "diagnose", "a:b", "--python", "/nowhere/python"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "/nowhere/python: no such interpreter" in done.stderr
