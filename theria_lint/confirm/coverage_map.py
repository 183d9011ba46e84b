"""Whether a run executed a suspect."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from itertools import takewhile

from theria_lint.model import Suspect

Place = tuple[int, int, int, int]


class Reach:
    """Holds the suspects of a file against the places that a run executed there.

    A suspect that acts through other code than its own (a decorator, a whole function) is reached when a line of
    that code runs. One that is an expression is reached when an instruction inside that expression runs: its line may
    hold a branch that was not taken, as in ``x.detach() if frozen else x``.
    """

    def __init__(self, source: str, suspects: Iterable[Suspect]) -> None:
        """Parses the file once; ``source`` is the text that the suspects were found in."""
        lines = source.splitlines(keepends=True)
        places = list(_places(ast.parse(source)))
        self._homes = {suspect: _home(suspect, lines, places) for suspect in suspects}

    def reached(self, executed: Iterable[Place]) -> list[Suspect]:
        """The suspects that a run with these places executed."""
        executed = list(executed)
        return [s for s, home in self._homes.items() if any(_runs(s, home, place) for place in executed)]


def unshifted(executed: Iterable[Place], source: str, variant: str) -> list[Place]:
    """Places in a variant as places in its source.

    A rewrite keeps lines, but not columns: it may dedent a block, and drop something within a line. What begins or
    ends in the midst of the text that it changed has no place in the source.
    """
    old, new = source.encode().split(b"\n"), variant.encode().split(b"\n")
    found = []
    for line, column, last, end in executed:
        start = _column(old[line - 1], new[line - 1], column)
        stop = _column(old[last - 1], new[last - 1], end)
        if start is not None and stop is not None:
            found.append((line, start, last, stop))
    return found


def _column(old: bytes, new: bytes, column: int) -> int | None:
    """A column of a rewritten line in the line as it was: by the text that both begin with, or that both end with."""
    if old == new:
        return column
    before, after = old.lstrip(), new.lstrip()
    column -= len(new) - len(after)
    head = _shared(before, after)
    tail = _shared(before[head:][::-1], after[head:][::-1])
    if column > head:
        if column < len(after) - tail:
            return None
        column += len(before) - len(after)
    return column + len(old) - len(before)


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _runs(suspect: Suspect, home: Place | None, place: Place) -> bool:
    if home is None:
        return suspect.reach[0] <= place[0] <= suspect.reach[1]
    return home[:2] <= place[:2] and place[2:] <= home[2:]


def _home(suspect: Suspect, lines: list[str], places: list[Place]) -> Place | None:
    """The smallest expression that holds the suspect; None where the suspect acts through other code."""
    span = suspect.span
    if not suspect.reach[0] <= span.line <= suspect.reach[1]:
        return None
    start = (span.line, _bytes(lines, span.line, span.column))
    end = (span.end_line, _bytes(lines, span.end_line, span.end_column))
    around = [place for place in places if place[:2] <= start and end <= place[2:]]
    return min(around, key=lambda p: (p[2] - p[0], p[3] - p[1]), default=None)


def _places(tree: ast.AST) -> Iterator[Place]:
    """The places of expressions that have instructions of their own.

    A bare name need not: since Python 3.13 two neighbours share one, which has the place of the first. It runs with the
    expression around it, unless that is a branch.
    """
    for parent in ast.walk(tree):
        branching = isinstance(parent, (ast.IfExp, ast.BoolOp))
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.expr) and (branching or not isinstance(node, (ast.Name, ast.Constant))):
                yield _place(node)


def _place(node: ast.expr) -> Place:
    return node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


def _bytes(lines: list[str], line: int, column: int) -> int:
    """A 1-based column in characters as a 0-based offset in UTF-8 bytes."""
    return len(lines[line - 1][: column - 1].encode()) if line <= len(lines) else 0
