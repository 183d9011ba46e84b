"""A verified rewrite on a terminal: the lines that go and the lines that come."""

from __future__ import annotations

from collections.abc import Iterator

from theria_lint.model import Report, Rewrite
from theria_lint.report import View
from theria_lint.report.diff import Edit, edits
from theria_lint.report.frame import WIDEST, fitted
from theria_lint.report.style import Style, counted, place, printable

_LONGEST = 12


def changes(rewrite: Rewrite, path: str, report: Report, view: View, style: Style) -> Iterator[str]:
    """What was rewritten and run; ``path`` is where the finding stands, so that only other files are named."""
    yield f"rewrite: with this change {printable(rewrite.symbol)} was run, and is safe; your files are as they were"
    rows = [row for edit in edits(rewrite, report.sources) for row in _rows(edit, path, report, view, style)]
    yield from (f"  {row}" for row in rows[:_LONGEST])
    if len(rows) > _LONGEST:
        yield f"  ({counted(len(rows) - _LONGEST, 'more line')}; --output-format html shows all)"


def _rows(edit: Edit, path: str, report: Report, view: View, style: Style) -> Iterator[str]:
    old = report.sources[edit.path, None].split("\n")[edit.line - 1 : edit.end_line - 1]
    where = "" if edit.path == path else f"{place(edit.path, None, None, None)}:"
    width = len(str(edit.line + max(len(old), len(edit.lines))))
    for sign, colour, lines in (("-", "red", old), ("+", "green", edit.lines)):
        for number, line in enumerate(lines, edit.line):
            head = f"{sign} {where}{number:>{width}} | "
            yield style.paint(
                head + fitted(line, (view.width - 4 if view.width else WIDEST) - len(head)), colour
            ).rstrip()
