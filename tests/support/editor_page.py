"""What ``docs/editors.md`` tells people to put into their editors, and the command that it names."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "editors.md"
KERNEL = """\
import torch


def attention(q, k, v):
    p = torch.softmax(q @ k.transpose(-1, -2), -1)
    return (p @ v).detach()
"""


def snippets(part: str, title: str) -> list[str]:
    """The code blocks under a heading ``### title`` in the part of the page under ``## part``, in order."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {part}\n")[1].split("\n## ")[0]
    section = text.split(f"\n### {title}\n")[1].split("\n### ")[0]
    return re.findall(r"^```\w+\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def snippet(part: str, title: str) -> str:
    (only,) = snippets(part, title)
    return only


def environment(folder: Path) -> dict[str, str]:
    """Variables with which ``theria-lint`` is this checkout's, and with a cache of its own."""
    programs = folder / "programs"
    programs.mkdir()
    script = programs / "theria-lint"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m theria_lint "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HOME": str(folder),
    }
