"""A source frame: the lines of a suspect with a caret under it."""

from __future__ import annotations

from theria_lint.model import Span
from theria_lint.report.style import Style, counted, printable

WIDEST = 160
"""Columns that a frame takes where no terminal says how many there are."""

_TALLEST = 6
_CUT = "..."
"""What stands for the part of a line that is left out."""


def frame(source: str, span: Span, style: Style, colour: str = "red", widest: int = WIDEST) -> list[str]:
    """The lines of ``span``, numbered, with carets under the first; nothing without the source.

    Of lines longer than ``widest`` the part is shown in which the suspect stands.
    """
    rows = source.split("\n")
    if not 1 <= span.line <= len(rows) or not source:
        return []
    last = min(span.end_line, span.line + _TALLEST - 1, len(rows))
    digits = len(str(last))
    gutter = style.paint(" " * digits + " |", "blue")
    room = max(widest - digits - 3, 20)
    before, marked = _carets(rows[span.line - 1], span)
    start = max(0, min(before - room // 3, before + marked - room + len(_CUT)) if before + marked > room else 0)
    shown = []
    for number in range(span.line, last + 1):
        row = _cut(_row(rows[number - 1]), start if number == span.line else 0, room)
        shown.append(f"{style.paint(f'{number:>{digits}} |', 'blue')} {row}".rstrip())
    carets = "^" * min(marked, room - before + start)
    shown.insert(1, f"{gutter} {' ' * (before - start)}{style.paint(carets, colour, bold=True)}")
    if last < span.end_line:
        shown.append(f"{gutter} ({counted(span.end_line - last, 'more line')})")
    return shown


def fitted(row: str, room: int) -> str:
    """A line of source as a terminal shows it in ``room`` columns."""
    return _cut(_row(row), 0, max(room, 20))


def _row(row: str) -> str:
    return printable(row.rstrip().expandtabs(4))


def _cut(row: str, start: int, room: int) -> str:
    """Columns ``start`` to ``start + room`` of a row, with dots where something is left out."""
    if start == 0 and width(row) <= room:
        return row
    kept, at = [], 0
    for character in row:
        if start <= at and at + width(character) <= start + room:
            kept.append(character)
        at += width(character)
    text = "".join(kept)
    text = _CUT + text[len(_CUT) :] if start else text
    return text if at <= start + room else text[: -len(_CUT)] + _CUT


def _carets(row: str, span: Span) -> tuple[int, int]:
    """Where carets start under the first line of a span, and how many, in columns of a terminal."""
    end = span.end_column - 1 if span.end_line == span.line else len(row.rstrip())
    before = width(_row(row[: span.column - 1] + "|")) - 1
    return before, max(width(_row(row[:end])) - before, 1)


def width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.category(character) in ("Mn", "Me", "Cf") for character in text)
