"""An editor for tests: a real client of the Language Server Protocol, over standard input and output."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from lsprotocol import types
from pytest_lsp.client import make_test_lsp_client

PATIENCE = 120.0
SERVER = (sys.executable, "-P", "-m", "theria_lint", "server")

Diagnostics = Sequence[types.Diagnostic]


class Editor:
    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.client = make_test_lsp_client()
        self._variables = variables
        self._versions: dict[str, int] = {}
        self.texts: dict[str, str] = {}

    async def start(
        self,
        command: Sequence[str] = SERVER,
        options: Any = None,
        in_folder: bool = True,
        capabilities: types.ClientCapabilities | None = None,
    ) -> types.InitializeResult:
        await self.client.start_io(*command, env=self._variables, cwd=self.folder)
        parameters = types.InitializeParams(
            capabilities or types.ClientCapabilities(),
            root_uri=self.folder.as_uri() if in_folder else None,
            initialization_options=options,
        )
        return await self.client.initialize_session(parameters)

    async def quit(self) -> None:
        if not self.client.stopped:
            await self.client.shutdown_session()
            await self.client.stop()

    def uri(self, name: str) -> str:
        return (self.folder / name).as_uri()

    def name(self, name: str) -> types.TextDocumentIdentifier:
        return types.TextDocumentIdentifier(self.uri(name))

    def open(self, name: str, text: str, language: str = "python") -> None:
        self.texts[name], self._versions[name] = text, 1
        item = types.TextDocumentItem(self.uri(name), language, 1, text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(item))

    def type(self, name: str, text: str) -> None:
        self.texts[name] = text
        self._versions[name] += 1
        document = types.VersionedTextDocumentIdentifier(self._versions[name], self.uri(name))
        change = types.TextDocumentContentChangeWholeDocument(text)
        self.client.text_document_did_change(types.DidChangeTextDocumentParams(document, [change]))

    def save(self, name: str) -> None:
        (self.folder / name).write_bytes(self.texts[name].encode())
        self.client.text_document_did_save(types.DidSaveTextDocumentParams(self.name(name)))

    def close(self, name: str) -> None:
        self.client.text_document_did_close(types.DidCloseTextDocumentParams(self.name(name)))

    async def until(self, name: str, holds: Callable[[Diagnostics], object]) -> Diagnostics:
        """The diagnostics of a file, as soon as they are as wanted."""
        async with asyncio.timeout(PATIENCE):
            while (found := self.client.diagnostics.get(self.uri(name))) is None or not holds(found):
                await self.client.wait_for_notification(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        return found

    async def hover(self, name: str, line: int, character: int) -> str | None:
        parameters = types.HoverParams(self.name(name), types.Position(line, character))
        found = await self.client.text_document_hover_async(parameters)
        assert found is None or isinstance(found.contents, types.MarkupContent)
        return found.contents.value if found else None

    async def actions(
        self, name: str, line: int, character: int, only: Sequence[types.CodeActionKind] | None = None
    ) -> dict[str, types.CodeAction]:
        """The quick fixes at a place, by their titles."""
        place = types.Position(line, character)
        parameters = types.CodeActionParams(
            self.name(name), types.Range(place, place), types.CodeActionContext([], only=only)
        )
        found = await self.client.text_document_code_action_async(parameters)
        return {action.title: action for action in found or () if isinstance(action, types.CodeAction)}

    def apply(self, name: str, action: types.CodeAction) -> str:
        """Make a quick fix's changes, as if they had been typed; returns the new text. For ASCII alone."""
        assert action.edit is not None
        assert action.edit.changes is not None
        (edits,) = action.edit.changes.values()
        text = applied(self.texts[name], edits)
        self.type(name, text)
        return text


def applied(text: str, edits: Sequence[types.TextEdit]) -> str:
    """The text with edits made, columns counted in characters; they must not overlap."""
    starts = [0]
    for row in re.findall(r"[^\r\n]*(?:\r\n|\r|\n)", text):
        starts.append(starts[-1] + len(row))
    places = [
        (starts[edit.range.start.line] + edit.range.start.character,
         starts[edit.range.end.line] + edit.range.end.character, edit.new_text)
        for edit in edits
    ]  # fmt: skip
    places.sort()
    assert all(one[1] <= other[0] for one, other in pairwise(places))
    for start, end, new in reversed(places):
        text = text[:start] + new + text[end:]
    return text
