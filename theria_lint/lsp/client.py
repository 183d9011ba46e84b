"""Places in a text: ours are 1-based lines and columns in characters, the protocol's 0-based and in code units."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from theria_lint.errors import UserError
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


SECTION = "theria-lint"
"""The key under which a client keeps our settings beside those of others."""


class Options(NamedTuple):
    """``confirm``: run the code when it is saved, unless the configuration says no; ``show_cleared``: as hints."""

    confirm: bool = True
    show_cleared: bool = False


KEYS = {"confirm": "confirm", "showCleared": "show_cleared"}


def read_options(table: object, before: Options) -> Options:
    """The options of a JSON object; what it does not set stays as it was ``before``.

    Raises UserError that names the key, the value and what is valid.
    """
    if not isinstance(table, Mapping):
        raise UserError(f"The client's settings are {table!r}; expected an object with {', '.join(KEYS)}.")
    for key, value in table.items():
        if key not in KEYS:
            raise UserError(f"The client sets {key!r}, which is unknown; the settings are {', '.join(KEYS)}.")
        if not isinstance(value, bool):
            raise UserError(f"The client sets {key} to {value!r}; expected true or false.")
    return before._replace(**{KEYS[key]: value for key, value in table.items()})


@asynccontextmanager
async def shown_as(server: LanguageServer, title: str) -> AsyncIterator[None]:
    """Have the editor show ``title`` for as long as the block lasts, if it can."""
    token = await _token(server)
    if token is None:
        yield
        return
    server.work_done_progress.begin(token, types.WorkDoneProgressBegin(title))
    try:
        yield
    finally:
        server.work_done_progress.end(token, types.WorkDoneProgressEnd())


async def _token(server: LanguageServer) -> str | None:
    window = server.client_capabilities.window
    if window is None or not window.work_done_progress:
        return None
    token = str(uuid.uuid4())
    try:
        await server.work_done_progress.create_async(token)
    except JsonRpcException:  # it will not show this one
        return None
    return token
