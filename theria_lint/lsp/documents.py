"""A document that is open in the editor, and what is known of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass

from lsprotocol import types
from pygls.uris import to_fs_path

from theria_lint.lsp.marks import Mark
from theria_lint.lsp.merging import Ran
from theria_lint.lsp.positions import newline_of, normalised


@dataclass(eq=False)
class Document:
    """``text`` is what the editor shows, normalised; ``marks`` belong to ``marked``, the text that was last checked.

    ``checking`` and ``running`` are the tasks that check and run it, if there are any.
    """

    uri: str
    path: str
    text: str = ""
    newline: str = "\n"
    version: int | None = None
    marks: tuple[Mark, ...] = ()
    marked: str | None = None
    ran: Ran | None = None
    checking: asyncio.Task[None] | None = None
    running: asyncio.Task[None] | None = None

    def show(self, source: str, version: int | None) -> None:
        """Take over what the editor shows."""
        self.text, self.newline, self.version = normalised(source), newline_of(source), version

    def cancel(self) -> None:
        """End whatever is being done with it."""
        for task in (self.checking, self.running):
            if task is not None:
                task.cancel()


def python_path(document: types.TextDocumentItem) -> str | None:
    """The path of a Python file; None for what is none, or no file: a notebook, its cells, a buffer without a name."""
    path = os.path.normpath(to_fs_path(document.uri) or "")
    is_python = document.language_id == "python" and not path.endswith(".ipynb")
    return path if path != "." and (is_python or path.endswith(".py")) else None


def folder_around(path: str, folders: Iterable[str]) -> str | None:
    """The innermost of some folders that a path lies in."""
    around = [folder for folder in folders if _lies_in(path, folder)]
    return max(around, key=len, default=None)


def _lies_in(path: str, folder: str) -> bool:
    try:
        return os.path.commonpath([path, folder]) == os.path.normpath(folder)
    except ValueError:  # two drives
        return False
