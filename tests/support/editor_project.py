"""A project with something of every kind to report, and the means to run editors in it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.editor_page import KERNEL, environment

Run = Callable[..., subprocess.CompletedProcess[str]]
SERVER, COMMAND = "The language server", "The command line"
UNREACHED = """\
import torch


class Attention(torch.nn.Module):
    def forward(self, q, k, v):
        é = torch.softmax(q @ k.transpose(-1, -2), -1)
        if q.shape[-1] == 12345:
            é = é.detach()
        return é @ v
"""


class Place(NamedTuple):
    """What an editor made of a line: columns from 1, ``kind`` in its own words."""

    path: str
    line: int
    column: int
    kind: str
    text: str


class Project(NamedTuple):
    """A folder with something of every kind to report, what is printed about it, and how to run a program in it."""

    folder: Path
    lines: list[str]
    run: Run


def make_project(home: Path) -> Project:
    """A project below ``home``, linted once."""
    folder = home / "project"
    folder.mkdir()
    variables = environment(home)
    files = {
        "kernel.py": KERNEL,
        "sub folder/unreached.py": UNREACHED,
        "broken.py": "import torch\n\ndef (:\n",
        "unused.py": "import torch\n\nx = 1  # theria: ignore[THL002]\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    def run(*command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        if shutil.which(command[0], path=variables["PATH"]) is None:
            pytest.skip(f"{command[0]} is not installed")
        return subprocess.run(
            command, cwd=folder, env=variables, input=stdin, capture_output=True, text=True, check=False, timeout=300
        )

    done = run("theria-lint", "--output-format", "concise", ".")
    assert done.returncode == 1, done.stderr
    return Project(folder, done.stdout.splitlines(), run)


def expected(project: Project) -> list[Place]:
    """Path, line and column of each line that was printed, read in the plainest way there is."""
    places = []
    for row in project.lines:
        path, line, column, text = row.split(":", 3)
        kind = "warning" if "[unconfirmed" in text or text.startswith(" warning") else "error"
        places.append(Place(path, int(line), int(column), kind, text.strip()))
    return places


def serves(project: Project, command: list[str]) -> bool:
    """Whether a command is our server: it answers a request to initialise."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"capabilities": {}}})
    done = project.run(*command, stdin=f"Content-Length: {len(body)}\r\n\r\n{body}")
    return '"name": "theria-lint"' in done.stdout
