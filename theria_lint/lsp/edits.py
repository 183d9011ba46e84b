"""From a text before and after to the edits that an editor applies, line by line."""

from __future__ import annotations

from lsprotocol import types

from theria_lint.lsp.positions import Encoding, position
from theria_lint.report.diff import between


def text_edits(before: str, after: str, newline: str, encoding: Encoding) -> list[types.TextEdit]:
    """The edits that turn one text into the other; the document ends its lines with ``newline``."""
    rows = before.split("\n")
    return [
        types.TextEdit(
            types.Range(position(rows, edit.line, 1, encoding), position(rows, edit.end_line, 1, encoding)),
            "".join(edit.lines).replace("\n", newline),
        )
        for edit in between("", before, after)
    ]
