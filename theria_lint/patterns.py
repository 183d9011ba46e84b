"""File patterns in the syntax of .gitignore: for ``.gitignore`` itself, ``exclude`` and ``per-file-ignores``.

The semantics are those of gitignore(5); ``tests/lint/test_patterns.py`` compares them with ``git check-ignore``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby


class Patterns:
    """Patterns in order, the last that matches a path decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        parsed = [pattern for line in lines if (pattern := _parse(line)) is not None]
        # Neighbours of one sign are one alternation: a file costs two or three searches, not one a pattern.
        groups = groupby(parsed, key=lambda item: item[0])
        self._groups = [(negated, *_compile(list(group))) for negated, group in groups]

    def match(self, path: str, is_dir: bool = False) -> bool | None:
        """True if ``path`` (relative to the patterns, with ``/``) is ignored, False if re-included, None if unnamed."""
        for negated, files, directories in reversed(self._groups):
            expression = directories if is_dir else files
            if expression is not None and expression.fullmatch(path):
                return not negated
        return None

    def match_within(self, path: str) -> bool:
        """Whether ``path`` or a directory on the way to it is ignored."""
        parts = path.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts)))
        return any(self.match(directory, is_dir=True) for directory in above) or bool(self.match(path))


def _parse(line: str) -> tuple[bool, bool, str] | None:
    """(negated, only directories, regular expression) of a line; None for a blank, a comment or a broken pattern."""
    line = re.sub(r"(?<!\\)((?:\\\\)*) +$", r"\1", line.rstrip("\r\n"))
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    body = line[1:] if negated else line
    only_directories = body.endswith("/")
    body = body[:-1] if only_directories else body
    if not body:
        return None
    try:
        expression = _translate(body)
        re.compile(expression)
    except (re.error, ValueError):
        return None
    return negated, only_directories, expression


def _translate(body: str) -> str:
    anchored = "/" in body
    body = body[1:] if body.startswith("/") else body
    prefix = "" if anchored else "(?:.*/)?"
    out, at = [prefix], 0
    while at < len(body):
        piece, at = _translate_at(body, at)
        out.append(piece)
    return "".join(out)


def _translate_at(body: str, at: int) -> tuple[str, int]:
    """The expression of the token at ``at``, and where the next one starts."""
    starts_part = at == 0 or body[at - 1] == "/"
    if starts_part and body.startswith("**/", at):
        return "(?:.*/)?", at + 3
    if starts_part and body[at:] == "**":
        return ".+", at + 2
    if body[at] == "*":
        end = at
        while end < len(body) and body[end] == "*":
            end += 1
        return "[^/]*", end
    if body[at] == "?":
        return "[^/]", at + 1
    if body[at] == "[":
        return _translate_class(body, at)
    if body[at] == "\\":
        if at + 1 == len(body):
            raise ValueError("a trailing backslash matches nothing")
        return re.escape(body[at + 1]), at + 2
    return re.escape(body[at]), at + 1


def _translate_class(body: str, at: int) -> tuple[str, int]:
    """A bracket expression; ``]`` directly after the opening is a member."""
    start = at + 1
    negated = start < len(body) and body[start] in "!^"
    start += negated
    end = body.find("]", start + 1)
    if end < 0:
        raise ValueError("a bracket that is not closed matches nothing")
    members = re.sub(r"([\[\]&~|^])", r"\\\1", body[start:end])
    return f"(?!/)[{'^' if negated else ''}{members}]", end + 1


def _compile(group: list[tuple[bool, bool, str]]) -> tuple[re.Pattern[str] | None, re.Pattern[str]]:
    """One expression for files (None if all patterns are for directories) and one for directories."""
    files = [expression for _, only_directories, expression in group if not only_directories]
    everything = [expression for _, _, expression in group]
    return re.compile("|".join(files), re.DOTALL) if files else None, re.compile("|".join(everything), re.DOTALL)
