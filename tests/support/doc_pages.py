"""The fenced blocks of README and documentation, and how they are run.

What a block's language says happens to it:

- ``console``: each line that begins with ``$ `` runs in bash, in the page's own folder, in order; below it stands what
  it prints. ``…`` on a line of its own stands for any number of lines, within a line for any text. Numbers of the size
  of float64 rounding are not compared.
- ``python title="kernel.py"``: a file of the page's folder. Without a title: the blocks of a page run as one script.
- ``toml``, ``yaml``, ``json``: parsed; with a title they are files as well. The commands under a YAML ``run`` or
  ``script`` run like those of a console.
- ``lua``, ``vim``, ``elisp``, ``text``: settings of editors and what they match; the tests of editors read the page.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
LANGUAGES = ("console", "python", "toml", "yaml", "json", "lua", "vim", "elisp", "text")
PARSERS = {"toml": tomllib.loads, "yaml": yaml.safe_load, "json": json.loads}

_BLOCK = re.compile(r"^( *)```(?P<language>[^\s`]*)(?P<info>[^\n]*)\n(?P<text>.*?)^\1```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
_ROUNDING = re.compile(r"\d\.\d*e-1\d")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is where its fence stands, ``text`` is without the indentation of the fence."""

    page: str
    line: int
    language: str
    title: str | None
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """The commands of a console and what each prints; of YAML, those that CI runs, with nothing shown."""
        if self.language == "console":
            yield from self._transcript()
        elif self.language == "yaml":
            for line in _ci_commands(yaml.safe_load(self.text)):
                yield line, ["…"]

    def _transcript(self) -> Iterator[tuple[str, list[str]]]:
        command: str | None = None
        shown: list[str] = []
        for line in [*self.text.splitlines(), "$ "]:
            if line.startswith("$ "):
                if command is not None:
                    yield command, shown
                command, shown = line[2:], []
            else:
                assert command is not None, f"{self.place}: a console begins with a command"
                shown.append(line)


def pages() -> list[str]:
    """Every page that is written by hand: those of rules are made from examples that other tests run."""
    found = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "rules"]
    found += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "experiments/phase11/README.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        indent, title = len(match[1]), _TITLE.search(match["info"])
        body = "".join(line[indent:] if line.strip() else "\n" for line in match["text"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match["language"], title[1] if title else None, body))
    return found


def _ci_commands(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("run", "script"):
                yield from (line for text in ([item] if isinstance(item, str) else item) for line in text.splitlines())
            else:
                yield from _ci_commands(item)
    elif isinstance(value, list):
        for item in value:
            yield from _ci_commands(item)


class Session:
    """A folder with the repository's examples in it, in which the blocks of one page run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "page"
        shutil.copytree(ROOT / "examples", self.folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        programs = folder / "programs"
        programs.mkdir()
        for name, command in (("python", ""), ("theria-lint", "-m theria_lint")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n', encoding="utf-8")
            program.chmod(0o755)
        self.env = os.environ | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "COLUMNS": "100",
            "CUDA_VISIBLE_DEVICES": "",  # what the pages show was measured on a CPU
        }

    def write(self, block: Block) -> None:
        """Write a titled block to its file."""
        assert block.title is not None
        path = self.folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")

    def run(self, command: str) -> tuple[int, str]:
        """The exit code of a command in bash, and what it printed: standard output, then standard error."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr


def matches(shown: list[str], printed: str) -> bool:
    """Whether what a page shows is what was printed."""
    pattern = "".join(_line_pattern(line) for line in _trimmed(shown))
    lines = _trimmed(printed.splitlines())
    return re.fullmatch(pattern, "".join(_ROUNDING.sub("~", line.rstrip()) + "\n" for line in lines)) is not None


def _trimmed(lines: list[str]) -> list[str]:
    """The lines without empty ones at the end."""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines


def _line_pattern(line: str) -> str:
    if line.strip() == "…":
        return r"(?:[^\n]*\n)*?"
    return r"[^\n]*".join(re.escape(_ROUNDING.sub("~", part)) for part in line.rstrip().split("…")) + "\n"
