"""Code that asks other programs for something while it is imported meets a machine that has none of them."""

from __future__ import annotations

from pathlib import Path

from tests.support.confirming import confirm_source, target_of
from theria.verdicts import Verdict
from theria_lint.report.sentences import say

ASKS = """
import os, subprocess, torch

version = subprocess.getoutput("git describe --tags")
assert os.system("nvidia-smi") != 0
shell = subprocess.run("git status | cat", shell=True, capture_output=True, text=True)
assert (shell.returncode, shell.stdout) == (127, "")
try:
    subprocess.check_output(["nvcc", "--version"])
except FileNotFoundError as error:
    assert error.filename == "nvcc"

def attention(q, k, v):
    return torch.softmax(q @ k.mT, dim=-1) @ v
"""
NEEDS = """
import subprocess, torch

subprocess.run(["nvcc", "--version"])

def attention(q, k, v):
    return torch.softmax(q @ k.mT, dim=-1) @ v
"""


def test_whoever_goes_on_without_an_answer_is_measured(tmp_path: Path) -> None:
    target = target_of(confirm_source(tmp_path, ASKS), "attention")
    assert target.verdict is Verdict.SAFE
    assert any("no other program" in say(note) for run in target.runs for note in run.notes)


def test_whoever_needs_the_program_is_told_so(tmp_path: Path) -> None:
    target = target_of(confirm_source(tmp_path, NEEDS), "attention")
    assert target.verdict is Verdict.INCONCLUSIVE
    assert "it starts a process, which a probe may not do" in say(target.reason)
    assert "nvcc" in say(target.reason)
