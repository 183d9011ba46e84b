"""Map the spans that a run executed to the suspects that stand there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile

from theria_lint.model import Suspect

ExecutedSpan = tuple[int, int, int, int]


class CoverageMap:
    """Holds the suspects of a file against the places that a run executed there.

    A suspect that acts through other code than its own (a decorator, a whole function) is reached when a line of
    that code runs. One that is an expression is reached when an instruction inside that expression runs: its line may
    hold a branch that was not taken, as in ``x.detach() if frozen else x``.
    """

    def __init__(self, source: str, suspects: Iterable[Suspect]) -> None:
        """Parse the file once; ``source`` is the text that the suspects were found in."""
        lines = source.splitlines(keepends=True)
        places = list(_iter_instruction_spans(ast.parse(source)))
        self._homes = {suspect: _find_own_expression(suspect, lines, places) for suspect in suspects}

    def find_executed_suspects(self, executed: Iterable[ExecutedSpan]) -> list[Suspect]:
        """The suspects that a run with these places executed."""
        executed = list(executed)
        return [s for s, home in self._homes.items() if any(_is_executed(s, home, place) for place in executed)]


def map_back_to_source(executed: Iterable[ExecutedSpan], source: str, variant: str) -> list[ExecutedSpan]:
    """Places in a variant as places in its source.

    A rewrite keeps lines, but not columns: it may dedent a block, and drop something within a line. What begins or
    ends in the midst of the text that it changed has no place in the source.
    """
    old, new = source.encode().split(b"\n"), variant.encode().split(b"\n")
    found = []
    for line, column, last, end in executed:
        start = _map_column_back(old[line - 1], new[line - 1], column)
        stop = _map_column_back(old[last - 1], new[last - 1], end)
        if start is not None and stop is not None:
            found.append((line, start, last, stop))
    return found


def _map_column_back(old: bytes, new: bytes, column: int) -> int | None:
    """A column of a rewritten line in the line as it was: by the text that both begin with, or that both end with."""
    if old == new:
        return column
    before, after = old.lstrip(), new.lstrip()
    column -= len(new) - len(after)
    head = _count_common_prefix(before, after)
    tail = _count_common_prefix(before[head:][::-1], after[head:][::-1])
    if column > head:
        if column < len(after) - tail:
            return None
        column += len(before) - len(after)
    return column + len(old) - len(before)


def _count_common_prefix(one: bytes, other: bytes) -> int:
    """How many bytes two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _is_executed(suspect: Suspect, home: ExecutedSpan | None, place: ExecutedSpan) -> bool:
    if home is None:
        return suspect.reach[0] <= place[0] <= suspect.reach[1]
    return home[:2] <= place[:2] and place[2:] <= home[2:]


def _find_own_expression(suspect: Suspect, lines: list[str], places: list[ExecutedSpan]) -> ExecutedSpan | None:
    """The smallest expression that holds the suspect; None where the suspect acts through other code."""
    span = suspect.span
    if not suspect.reach[0] <= span.line <= suspect.reach[1]:
        return None
    start = (span.line, _to_byte_offset(lines, span.line, span.column))
    end = (span.end_line, _to_byte_offset(lines, span.end_line, span.end_column))
    around = [place for place in places if place[:2] <= start and end <= place[2:]]
    return min(around, key=lambda p: (p[2] - p[0], p[3] - p[1]), default=None)


def _iter_instruction_spans(tree: ast.AST) -> Iterator[ExecutedSpan]:
    """The places of expressions that have instructions of their own.

    A bare name need not: since Python 3.13 two neighbours share one, which has the place of the first. It runs with the
    expression around it, unless that is a branch.
    """
    for parent in ast.walk(tree):
        branching = isinstance(parent, (ast.IfExp, ast.BoolOp))
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.expr) and (branching or not isinstance(node, (ast.Name, ast.Constant))):
                yield _get_node_span(node)


def _get_node_span(node: ast.expr) -> ExecutedSpan:
    return node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


def _to_byte_offset(lines: list[str], line: int, column: int) -> int:
    """A 1-based column in characters as a 0-based offset in UTF-8 bytes."""
    return len(lines[line - 1][: column - 1].encode()) if line <= len(lines) else 0


_ASKING = re.compile(r"cuda|\bgpu\b|_gpu\b|gpu_|\bis_hip\b|device_type|device\.type", re.IGNORECASE)
"""What an expression looks like that asks which device there is, or where a tensor is."""

_LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def asks_for_gpu(source: str, line: int) -> bool:
    """Whether a line stands in a branch, or behind a way out, whose condition asks for a GPU."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _ASKING.search(ast.unparse(node.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return any(_asks(test, names) for test in _list_conditions(tree, line))


def _asks(test: ast.expr, names: set[str]) -> bool:
    used = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    return bool(used & names) or _ASKING.search(ast.unparse(test)) is not None


def _list_conditions(node: ast.AST, line: int) -> Iterator[ast.expr]:
    """The conditions on the way to a line: of the branches around it, and of those before it that leave."""
    for _, value in ast.iter_fields(node):
        if not (isinstance(value, list) and value and isinstance(value[0], ast.stmt)):
            continue
        for number, statement in enumerate(value):
            if not statement.lineno <= line <= (statement.end_lineno or statement.lineno):
                continue
            before = [one for one in value[:number] if isinstance(one, ast.If)]
            yield from (one.test for one in before if isinstance(one.body[-1], _LEAVING))
            if isinstance(statement, ast.If | ast.While):
                yield statement.test
            yield from _list_conditions(statement, line)
