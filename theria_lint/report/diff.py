"""What verified rewrites change, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from theria_lint.model import Rewrite
from theria_lint.static.text import kept_lines


@dataclass(frozen=True, order=True)
class Edit:
    """One change to a file: ``lines``, each with its line end, take the place of those from ``line`` (1-based).

    ``end_line`` is exclusive: the edit is an insertion where the two are equal.
    """

    path: str
    line: int
    end_line: int
    lines: tuple[str, ...]


def edits(rewrite: Rewrite, sources: Mapping[tuple[str, int | None], str]) -> list[Edit]:
    """The changes that turn the files as they were read into those of ``rewrite``, by path and line, none overlapping.

    ``sources`` is ``Report.sources``; line ends there are newlines, whatever the file on the disk has.
    """
    return [edit for path, text in sorted(rewrite.files) for edit in between(path, sources[path, None], text)]


def between(path: str, before: str, after: str) -> Iterator[Edit]:
    """The changes from one text of a file to another, by line, none overlapping."""
    old, new = kept_lines(before), kept_lines(after)
    for tag, first, last, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield Edit(path, first + 1, last + 1, tuple(new[start:end]))
