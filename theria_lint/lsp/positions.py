"""Places in a text: ours are 1-based lines and columns in characters, the protocol's 0-based and in code units."""

from __future__ import annotations

from collections.abc import Sequence

from lsprotocol import types

from theria_lint.model import Span

Encoding = types.PositionEncodingKind | str


def normalised(text: str) -> str:
    """The text as the linter reads it: lines ended by a newline, no byte order mark."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def newline_of(text: str) -> str:
    """How a text ends its lines."""
    return "\r\n" if "\r\n" in text else "\r" if "\r" in text and "\n" not in text else "\n"


def units(text: str, encoding: Encoding) -> int:
    """The length of a text in the code units of an encoding."""
    if encoding == types.PositionEncodingKind.Utf32 or text.isascii():
        return len(text)
    if encoding == types.PositionEncodingKind.Utf8:
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def position(rows: Sequence[str], line: int, column: int, encoding: Encoding) -> types.Position:
    """The protocol's position of a place; one behind the end of the text is its end."""
    if line > len(rows):
        line, column = len(rows), len(rows[-1]) + 1
    return types.Position(line - 1, units(rows[line - 1][: column - 1], encoding))


def range_of(rows: Sequence[str], span: Span, encoding: Encoding) -> types.Range:
    """The protocol's range of a span in a text of these rows."""
    start = position(rows, span.line, span.column, encoding)
    return types.Range(start, position(rows, span.end_line, span.end_column, encoding))


def row_span(rows: Sequence[str], line: int) -> Span:
    """What stands on a line, without its indentation; lines beyond the text are its last."""
    line = min(max(line, 1), len(rows))
    row = rows[line - 1]
    return (
        Span(line, len(row) - len(row.lstrip()) + 1, line, len(row.rstrip()) + 1)
        if row.strip()
        else Span(line, 1, line, 1)
    )


def overlaps(one: types.Range, other: types.Range) -> bool:
    """Whether two ranges share a place; the ends count, so that a cursor behind a range is still at it."""
    return _key(one.start) <= _key(other.end) and _key(other.start) <= _key(one.end)


def _key(place: types.Position) -> tuple[int, int]:
    return place.line, place.character
