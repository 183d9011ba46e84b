"""Whether a run executed a suspect."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

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
    """Places in a variant as places in its source: a rewrite keeps lines, but may have moved them to the left."""
    pairs = zip(source.splitlines(), variant.splitlines(), strict=False)
    shifts = [0, *(_indent(old) - _indent(new) if new.strip() else 0 for old, new in pairs)]
    return [(a, b + shifts[a], c, d + shifts[c]) for a, b, c, d in executed]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


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
