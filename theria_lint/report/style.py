"""Formatting that formats share: colours, places, plurals, source frames, and text and JSON that nothing acts on."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theria_lint.model import Span

# How to show what a terminal or a browser would act on: control characters, and those that reorder or end lines.
_ORDER = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ACTIVE = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *_ORDER)
ESCAPES = {code: repr(chr(code))[1:-1] for code in _ACTIVE}
COMMAND = re.compile(r"##(?=\w*\[)")
"""How a command to the log of Azure Pipelines, TeamCity or (of old) GitHub begins, wherever in a line it stands."""
# How one to GitHub begins: at the start of a line, which may be indented or coloured, and has what ends the command.
_STARTING = re.compile(r"^((?:[^\S\n]|\033\[[\d;]*m)*):(?=:.*::)", re.MULTILINE)
_COLOUR_CODES = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36}


class TerminalStyle:
    """Terminal colours, or none of them."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def paint_text(self, text: str, colour: str | None = None, bold: bool = False) -> str:
        """``text`` in a colour of ``_COLOUR_CODES``, bold or not; unchanged without colours."""
        codes = ([1] if bold else []) + ([_COLOUR_CODES[colour]] if colour else [])
        if not self._colour or not codes:
            return text
        return f"\033[{';'.join(map(str, codes))}m{text}\033[0m"


def wrap_text(text: str, indent: str, width: int) -> list[str]:
    """``text`` on lines of at most ``width`` columns, all but the first further in; on one line if ``width`` is 0."""
    line = f"{indent}{escape_unprintable(' '.join(text.split()))}"
    if not width or len(line) <= width:
        return [line]
    from textwrap import wrap

    further = f"{indent}    "
    return wrap(line, max(width, 40), subsequent_indent=further, break_long_words=False, break_on_hyphens=False)


def format_place(path: str, cell: int | None, line: int | None, column: int | None) -> str:
    """``path:line:column``, with the cell of a notebook after the path."""
    parts = [path, f"cell {cell}" if cell is not None else None, line, column]
    return ":".join(escape_unprintable(str(part)) for part in parts if part is not None)


def escape_unprintable(text: str) -> str:
    """One line of text in which nothing moves the cursor: other people's code and errors may hold anything."""
    return text if text.isprintable() else text.translate(ESCAPES)


def inert(text: str) -> str:
    """A whole text in which no line is a command to a CI service that reads it in a log."""
    return _STARTING.sub(r"\1\\x3a", COMMAND.sub(r"#\\x23", text))


def shown(text: str) -> str:
    """Lines that may hold anything, as lines that nothing acts on."""
    return inert("\n".join(map(escape_unprintable, text.split("\n"))))


def as_json(data: Any, *, indent: int | None = 2) -> str:
    """``data`` as JSON without NaN; what is not ASCII stays readable, and what is active becomes an escape."""
    import json

    text = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)
    # JSON itself escapes what is below a space. Half a character is none that UTF-8 can hold.
    active = f"[{''.join(chr(code) for code in ESCAPES if code > 0x20)}\ud800-\udfff]"
    return COMMAND.sub(r"#\\u0023", re.sub(active, lambda found: f"\\u{ord(found[0]):04x}", text))


def format_count(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


_OBSTACLES = {
    "notebook": "write the comments into the notebook's cells yourself",
    "meaning": "a comment would change what the code does",
}


def describe_added_ignores(path: str, count: int, obstacle: str | None) -> str:
    """What --add-ignores did to a file: how many findings it ignores, or what kept it from that."""
    if obstacle is None:
        return f"{path}: {format_count(count, 'finding')} ignored."
    return f"{path}: left as it is; {_OBSTACLES.get(obstacle, obstacle)}."


MAX_FRAME_WIDTH = 160
"""Columns that a frame takes where no terminal says how many there are."""

_MAX_FRAME_LINES = 6
_ELLIPSIS = "..."
"""What stands for the part of a line that is left out."""


@lru_cache(maxsize=4)
def split_rows(source: str) -> tuple[str, ...]:
    """The rows of a source: kept, as every finding of a file asks for them."""
    return tuple(source.split("\n"))


@lru_cache(maxsize=256)
def get_stripped_row(source: str, line: int) -> str:
    """A row (1-based) without the blanks around it, "" for none: kept, as many findings may stand in one long row."""
    rows = split_rows(source)
    return rows[line - 1].strip() if 1 <= line <= len(rows) else ""


def frame_source(
    source: str, span: Span, style: TerminalStyle, colour: str = "red", widest: int = MAX_FRAME_WIDTH
) -> list[str]:
    """The lines of ``span``, numbered, with carets under the first; nothing without the source.

    Of lines longer than ``widest`` the part is shown in which the suspect stands.
    """
    rows = split_rows(source)
    if not 1 <= span.line <= len(rows) or not source:
        return []
    last = min(span.end_line, span.line + _MAX_FRAME_LINES - 1, len(rows))
    digits = len(str(last))
    gutter = style.paint_text(" " * digits + " |", "blue")
    room = max(widest - digits - 3, 20)
    first, span = narrow_row(rows[span.line - 1], span, _NEAR * room)
    before, marked = _locate_carets(first, span)
    start = max(0, min(before - room // 3, before + marked - room + len(_ELLIPSIS)) if before + marked > room else 0)
    shown = []
    for number in range(span.line, last + 1):
        row = first if number == span.line else rows[number - 1][: _NEAR * room]
        row = _cut_row(_clean_row(row), start if number == span.line else 0, room)
        shown.append(f"{style.paint_text(f'{number:>{digits}} |', 'blue')} {row}".rstrip())
    carets = "^" * min(marked, room - before + start)
    shown.insert(1, f"{gutter} {' ' * (before - start)}{style.paint_text(carets, colour, bold=True)}")
    if last < span.end_line:
        shown.append(f"{gutter} ({format_count(span.end_line - last, 'more line')})")
    return shown


def fit_row(row: str, room: int) -> str:
    """A line of source as a terminal shows it in ``room`` columns."""
    room = max(room, 20)
    return _cut_row(_clean_row(row[: _NEAR * room]), 0, room)


# Characters that are looked at for each column that is shown: a row may be as long as its file, and hold all suspects.
_NEAR = 4


def narrow_row(row: str, span: Span, around: int) -> tuple[str, Span]:
    """Of a row the part around a span that begins in it, and the span counted from where that part begins."""
    from dataclasses import replace  # a clean file has no row to narrow

    first = max(0, span.column - 1 - around)
    end = span.end_column - 1 if span.end_line == span.line else len(row)
    last = min(end, span.column + around) + around
    moved = replace(span, column=span.column - first)
    if span.end_line == span.line:
        moved = replace(moved, end_column=min(span.end_column, last + 1) - first)
    return row[first:last], moved


def _clean_row(row: str) -> str:
    return escape_unprintable(row.rstrip().expandtabs(4))


def _cut_row(row: str, start: int, room: int) -> str:
    """Columns ``start`` to ``start + room`` of a row, with dots where something is left out."""
    if start == 0 and measure_width(row) <= room:
        return row
    kept, at = [], 0
    for character in row:
        if start <= at and at + measure_width(character) <= start + room:
            kept.append(character)
        at += measure_width(character)
    text = "".join(kept)
    text = _ELLIPSIS + text[len(_ELLIPSIS) :] if start else text
    return text if at <= start + room else text[: -len(_ELLIPSIS)] + _ELLIPSIS


def _locate_carets(row: str, span: Span) -> tuple[int, int]:
    """Where carets start under the first line of a span, and how many, in columns of a terminal."""
    end = span.end_column - 1 if span.end_line == span.line else len(row.rstrip())
    before = measure_width(_clean_row(row[: span.column - 1] + "|")) - 1
    return before, max(measure_width(_clean_row(row[:end])) - before, 1)


def measure_width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.category(character) in ("Mn", "Me", "Cf") for character in text)
