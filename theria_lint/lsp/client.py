"""Convert positions between linter and protocol, read client options, show progress."""

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

PositionEncoding = types.PositionEncodingKind | str


def normalise_text(text: str) -> str:
    """The text as the linter reads it: lines ended by a newline, no byte order mark."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def detect_newline(text: str) -> str:
    """How a text ends its lines."""
    return "\r\n" if "\r\n" in text else "\r" if "\r" in text and "\n" not in text else "\n"


def count_code_units(text: str, encoding: PositionEncoding) -> int:
    """The length of a text in the code units of an encoding."""
    if encoding == types.PositionEncodingKind.Utf32 or text.isascii():
        return len(text)
    if encoding == types.PositionEncodingKind.Utf8:
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def make_position(rows: Sequence[str], line: int, column: int, encoding: PositionEncoding) -> types.Position:
    """The protocol's position of a place; one behind the end of the text is its end."""
    if line > len(rows):
        line, column = len(rows), len(rows[-1]) + 1
    return types.Position(line - 1, count_code_units(rows[line - 1][: column - 1], encoding))


def make_range(rows: Sequence[str], span: Span, encoding: PositionEncoding) -> types.Range:
    """The protocol's range of a span in a text of these rows."""
    start = make_position(rows, span.line, span.column, encoding)
    return types.Range(start, make_position(rows, span.end_line, span.end_column, encoding))


def make_row_span(rows: Sequence[str], line: int) -> Span:
    """What stands on a line, without its indentation; lines beyond the text are its last."""
    line = min(max(line, 1), len(rows))
    row = rows[line - 1]
    return (
        Span(line, len(row) - len(row.lstrip()) + 1, line, len(row.rstrip()) + 1)
        if row.strip()
        else Span(line, 1, line, 1)
    )


def is_overlapping(one: types.Range, other: types.Range) -> bool:
    """Whether two ranges share a place; the ends count, so that a cursor behind a range is still at it."""
    return _sort_key_of_position(one.start) <= _sort_key_of_position(other.end) and _sort_key_of_position(
        other.start
    ) <= _sort_key_of_position(one.end)


def _sort_key_of_position(place: types.Position) -> tuple[int, int]:
    return place.line, place.character


SECTION = "theria-lint"
"""The key under which a client keeps our settings beside those of others."""


class ClientOptions(NamedTuple):
    """``confirm``: run the code when it is saved, unless the configuration says no; ``show_cleared``: as hints."""

    confirm: bool = True
    show_cleared: bool = False


OPTION_FIELDS = {"confirm": "confirm", "showCleared": "show_cleared"}


def read_options(table: object, before: ClientOptions) -> ClientOptions:
    """The options of a JSON object; what it does not set stays as it was ``before``.

    Raises UserError that names the key, the value and what is valid.
    """
    if not isinstance(table, Mapping):
        raise UserError(f"The client's settings are {table!r}; expected an object with {', '.join(OPTION_FIELDS)}.")
    for key, value in table.items():
        if key not in OPTION_FIELDS:
            raise UserError(f"The client sets {key!r}, which is unknown; the settings are {', '.join(OPTION_FIELDS)}.")
        if not isinstance(value, bool):
            raise UserError(f"The client sets {key} to {value!r}; expected true or false.")
    return before._replace(**{OPTION_FIELDS[key]: value for key, value in table.items()})


@asynccontextmanager
async def show_progress(server: LanguageServer, title: str) -> AsyncIterator[None]:
    """Have the editor show ``title`` for as long as the block lasts, if it can."""
    token = await _create_progress_token(server)
    if token is None:
        yield
        return
    server.work_done_progress.begin(token, types.WorkDoneProgressBegin(title))
    try:
        yield
    finally:
        server.work_done_progress.end(token, types.WorkDoneProgressEnd())


async def _create_progress_token(server: LanguageServer) -> str | None:
    window = server.client_capabilities.window
    if window is None or not window.work_done_progress:
        return None
    token = str(uuid.uuid4())
    try:
        await server.work_done_progress.create_async(token)
    except JsonRpcException:  # it will not show this one
        return None
    return token
