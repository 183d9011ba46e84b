"""What an editor's session holds, and when what is checked and run."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from theria_lint.errors import UserError
from theria_lint.lsp.background import RunError, lint_saved
from theria_lint.lsp.check_document import check
from theria_lint.lsp.client import Encoding, Options, overlaps, shown_as
from theria_lint.lsp.diagnostics import Mark, Marker
from theria_lint.lsp.documents import Document, Ran, folder_around, merge, python_path
from theria_lint.result import Report

DELAY = 0.3
"""Seconds without a keystroke after which a document is checked."""

_LOG = logging.getLogger(__name__)


class Session:
    """The documents that are open, and the client's options: those in force, and the last that were valid.

    Everything here runs on the server's event loop but the static stage itself.
    """

    def __init__(self, server: LanguageServer) -> None:
        self._server = server
        self.options = self.accepted = Options()
        self.documents: dict[str, Document] = {}
        # One at a time: the static stage computes, and torch would take every core twice.
        self._static = ThreadPoolExecutor(1)
        self._one_run = asyncio.Lock()
        self._complaint = ""

    @property
    def encoding(self) -> Encoding:
        """The code units that the client and the server have agreed on."""
        return self._server.workspace.position_encoding or types.PositionEncodingKind.Utf16

    def open(self, item: types.TextDocumentItem) -> None:
        """Start to watch a document, if it is a Python file."""
        path = python_path(item)
        if path is not None:
            self.documents[item.uri] = Document(item.uri, path)
            self.show(item.uri)

    def show(self, uri: str) -> None:
        """Take over what the editor shows, and check it once no more keys are pressed."""
        document = self.documents.get(uri)
        if document is not None:
            current = self._server.workspace.get_text_document(uri)
            document.show(current.source, current.version)
            self._check_soon(document, 0.0 if document.marked is None else DELAY)

    def save(self, uri: str) -> None:
        """Run a document that is on the disk as the editor shows it; an older run of it ends."""
        document = self.documents.get(uri)
        if document is not None:
            if document.running is not None:
                document.running.cancel()
            document.running = self._start(partial(self._run, document), f"running {document.path}")

    def withdraw(self, uri: str) -> None:
        """Take back what was said about a document, until it changes or is saved again."""
        document = self.documents.get(uri)
        if document is not None:
            document.cancel()
            document.ran = None
            self._publish(document, ())

    def close(self, uri: str) -> None:
        """Forget a document, and take back what was said about it."""
        self.withdraw(uri)
        self.documents.pop(uri, None)

    def close_all(self) -> None:
        """End everything that runs."""
        for document in self.documents.values():
            document.cancel()
        self._static.shutdown(wait=False, cancel_futures=True)

    def reconsider(self) -> None:
        """Settings have changed: what was said of the documents may no longer be so."""
        for document in self.documents.values():
            document.cancel()
            document.ran = None
            self._check_soon(document, 0.0)

    def marks_at(self, uri: str, where: types.Range) -> list[Mark]:
        """What is marked at a place, if the marks are those of the text that the editor shows."""
        document = self.documents.get(uri)
        if document is None or document.marked != document.text:
            return []
        return [mark for mark in document.marks if overlaps(mark.diagnostic.range, where)]

    def complain(self, error: UserError) -> None:
        """Show what only the user can mend, once."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            self._server.window_show_message(types.ShowMessageParams(types.MessageType.Error, str(error)))

    def log(self, text: str, kind: types.MessageType = types.MessageType.Info) -> None:
        """Write to the log that the editor keeps."""
        self._server.window_log_message(types.LogMessageParams(kind, text))

    def _check_soon(self, document: Document, delay: float) -> None:
        if document.checking is not None:
            document.checking.cancel()
        document.checking = self._start(partial(self._check, document, delay), f"checking {document.path}")

    def _start(self, work: Callable[[], Awaitable[object]], what: str) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._guarded(work, what))

    async def _guarded(self, work: Callable[[], Awaitable[object]], what: str) -> None:
        """Whatever goes wrong is told, and is no reason to end the server."""
        try:
            await work()
        except UserError as error:
            self.complain(error)
        except RunError as error:
            self.log(f"{what} failed: {error}", types.MessageType.Error)
        except Exception as error:
            _LOG.exception("%s failed", what)
            text = f"{what} failed, an internal error: {type(error).__name__}: {error}; please report it."
            self.log(text, types.MessageType.Error)

    async def _check(self, document: Document, delay: float) -> bool:
        """Check what the editor shows and publish it; returns whether saving it would have it run."""
        await asyncio.sleep(delay)
        text, inside = document.text, self._folder(document) is not None
        loop = asyncio.get_running_loop()
        try:
            checked = await loop.run_in_executor(self._static, check, document.path, text, self.options, inside)
        except UserError:
            self._publish(document, ())
            raise
        self._complaint = ""
        if text == document.text:
            self._mark(document, checked.report)
        return checked.would_run

    def _mark(self, document: Document, static: Report) -> None:
        """Publish what is known of what the editor shows: ``static``, and what the last run said."""
        text, ran = document.text, document.ran
        known = static if ran is None else ran.report if ran.text == text else merge(text, static, ran)
        marker = Marker(document.uri, text.split("\n"), self.encoding)
        document.marked = text
        self._publish(document, tuple(marker.marks(known, self.options.show_cleared)))

    def _publish(self, document: Document, marks: tuple[Mark, ...]) -> None:
        document.marks = marks
        diagnostics = [mark.diagnostic for mark in marks]
        parameters = types.PublishDiagnosticsParams(document.uri, diagnostics, document.version)
        self._server.text_document_publish_diagnostics(parameters)

    async def _run(self, document: Document) -> None:
        text, folder = document.text, self._folder(document)
        would_run = await self._check(document, 0.0)
        if not would_run or folder is None:
            return
        async with self._one_run, shown_as(self._server, f"theria-lint runs {os.path.basename(document.path)}"):
            report = await lint_saved(document.path, folder)
        # What was run is what was on the disk, should the two differ.
        document.ran = Ran(next(iter(report.sources.values()), text), report)
        self._log_run(report)
        await self._check(document, 0.0)

    def _log_run(self, report: Report) -> None:
        """What is worth knowing about a run, beside what it found."""
        for note in report.notes:
            self.log(note)
        missing = [f"{name} ({refusal})" for name, refusal in report.protections.items() if refusal is not None]
        if missing:
            text = f"Protections that this machine did not give: {'; '.join(missing)}."
            self.log(text, types.MessageType.Warning)

    def _folder(self, document: Document) -> str | None:
        """The folder of the workspace that a document lies in, its own where there is none; None if it is outside."""
        workspace = self._server.workspace
        folders = [path for uri in workspace.folders if (path := to_fs_path(uri))]
        folders = folders or ([workspace.root_path] if workspace.root_path else [])
        return folder_around(document.path, folders) if folders else os.path.dirname(document.path)
