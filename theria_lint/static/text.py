"""Lines as Python counts them, and the mark of a rewrite that no author would leave so."""

from __future__ import annotations

import re

INLINED = "__import__("
"""What stands in a rewrite that imports in the midst of an expression: its tidy form is another program."""

# str.splitlines would also split at form feeds and other characters that end no line of Python.
_LINE = re.compile(r"\r\n|\r|\n")
_BRACKET_OR_END = re.compile(r"[()\[\]{}]|\n")
_KEPT = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def split_lines(source: str) -> list[str]:
    """The lines of a source without their ends; one more, empty, after a final line end."""
    return _LINE.split(source)


def kept_lines(source: str) -> list[str]:
    """The lines of a source with their ends: joined, they are the source."""
    return _KEPT.findall(source)


def end_of_statement(text: str, place: int) -> int:
    """Where the logical line of a masked text that holds a place ends, however many physical lines it takes."""
    depth = sum(map(text[:place].count, "([{")) - sum(map(text[:place].count, ")]}"))
    for match in _BRACKET_OR_END.finditer(text, place):
        if match[0] != "\n":
            depth += 1 if match[0] in "([{" else -1
        elif depth <= 0 and not text[: match.start()].endswith(("\\", "\\\r")):
            return match.start()
    return len(text)
