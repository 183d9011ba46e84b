"""What the tests of releases share: a copy of the checkout, and programs run in an environment of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

UNSAFE = """\
import torch


def attention(q, k, v):
    weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
    return weights.detach() @ v
"""
SAFE = UNSAFE.replace(".detach()", "")
CLEARED = """\
import torch


def attention(q, k, v):
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    weights = torch.exp(scores - scores.amax(dim=-1, keepdim=True).detach())
    return weights / weights.sum(dim=-1, keepdim=True) @ v
"""


def run(
    *command: str | Path, cwd: Path, codes: Sequence[int] = (0,), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command's output, standard error merged in; the test fails with it unless the exit code is in ``codes``."""
    merged = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | dict(env or {})
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=merged,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode in codes, f"{command} exited with {done.returncode}:\n{done.stdout}"
    return done


def need_git() -> None:
    """Skip unless this is a checkout that git can list."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")


def need_index(scratch: Path) -> None:
    """Skip unless pip can reach a package index: what is built here is built as users build it."""
    patience = ["--quiet", "--retries", "1", "--timeout", "10"]
    fetch = ["pip", "download", *patience, "--no-deps", "--dest", str(scratch), "hatchling"]
    if subprocess.run([sys.executable, "-m", *fetch], capture_output=True, check=False).returncode:
        pytest.skip("needs a package index")


def copy_checkout(folder: Path) -> None:
    """The files of the checkout as they are now, without what git ignores."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout
    for name in listed.rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
