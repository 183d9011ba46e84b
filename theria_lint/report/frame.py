"""A source frame: the lines of a suspect with a caret under it."""

from __future__ import annotations

from theria_lint.model import Span
from theria_lint.report.style import Style

_WIDEST = 160
_TALLEST = 6


def frame(source: str, span: Span, style: Style) -> list[str]:
    """The lines of ``span``, numbered, and carets under a span of one line; nothing without the source."""
    rows = source.split("\n")
    if not 1 <= span.line <= len(rows) or not source:
        return []
    last = min(span.end_line, span.line + _TALLEST - 1, len(rows))
    width = len(str(last))
    shown = [f"{number:>{width}} | {_row(rows[number - 1])}".rstrip() for number in range(span.line, last + 1)]
    gutter = " " * width + " | "
    if last < span.end_line:
        shown.append(f"{gutter}({span.end_line - last} more lines)")
    before, count = _carets(rows[span.line - 1], span)
    if before + count <= _WIDEST:
        shown.insert(1, gutter + " " * before + style.paint("^" * count, "red", bold=True))
    return shown


def _row(row: str) -> str:
    row = row.expandtabs(4)
    return row if len(row) <= _WIDEST else row[: _WIDEST - 3] + "..."


def _carets(row: str, span: Span) -> tuple[int, int]:
    """Where carets start under the first line of a span, and how many, in columns of a terminal."""
    end = span.end_column - 1 if span.end_line == span.line else len(row.rstrip())
    before = _width(row[: span.column - 1].expandtabs(4))
    return before, max(_width(row[:end].expandtabs(4)) - before, 1)


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)
