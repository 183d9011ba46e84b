"""The rules' example files: what they say must be found, read from their comments.

A comment at the end of a line says what holds of that line:

    # expect: THL002 confirmed, THL010 cleared    the suspects that begin on the line, with their dispositions
    # verdict: silent_collapse                    the verdict of the target that is defined on the line
    # near miss: why                              nothing is found on the line, although it looks as if
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .rules import Rule

_COMMENT = re.compile(r"#\s*(expect|verdict|near miss):\s*(.+?)\s*$")


@dataclass(frozen=True, slots=True)
class Example:
    """An example file and what must be true of it: ``expected`` holds (line, rule, disposition)."""

    path: Path
    source: str
    expected: tuple[tuple[int, str, str], ...]
    verdicts: tuple[tuple[int, str], ...]
    near_misses: tuple[int, ...]


def read_example(path: Path) -> Example:
    """Read an example file."""
    source = path.read_text(encoding="utf-8")
    expected: list[tuple[int, str, str]] = []
    verdicts: list[tuple[int, str]] = []
    near_misses: list[int] = []
    for number, line in enumerate(source.splitlines(), start=1):
        match = _COMMENT.search(line)
        if match is None:
            continue
        kind, text = match.groups()
        if kind == "expect":
            for part in text.split(","):
                rule, disposition = part.split()
                expected.append((number, rule, disposition))
        elif kind == "verdict":
            verdicts.append((number, text))
        else:
            near_misses.append(number)
    return Example(path, source, tuple(expected), tuple(verdicts), tuple(near_misses))


def examples(rule: Rule) -> tuple[Example, ...]:
    """The example files of a rule, by name."""
    return tuple(read_example(path) for path in sorted(rule.folder.glob("*.py")))
