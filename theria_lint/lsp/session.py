"""The session of an editor: its open documents, and when they are checked and run.

They are run in a process of their own, which can be ended at any moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from theria_lint.errors import UserError
from theria_lint.lsp.client import ClientOptions, PositionEncoding, is_overlapping, show_progress
from theria_lint.lsp.diagnostics import DiagnosticBuilder, DocumentMark
from theria_lint.lsp.documents import (
    CheckText,
    FinishedRun,
    OpenDocument,
    find_folder_around,
    get_python_path,
    merge_reports,
)
from theria_lint.report.command_messages import say_checking, say_ended, say_failed, say_internal_error, say_running
from theria_lint.report.sentences import describe_user_error, list_note_lines, say_lacking_protections
from theria_lint.result import LintReport

CHECK_DELAY = 0.3
"""Seconds without a keystroke after which a document is checked."""

_LOG = logging.getLogger(__name__)


class Session:
    """The documents that are open, and the client's options: those in force, and the last that were valid.

    Everything here runs on the server's event loop but the static stage itself.
    """

    def __init__(self, server: LanguageServer, check_text: CheckText) -> None:
        self._server = server
        self._check_text = check_text
        self.options = self.accepted = ClientOptions()
        self.documents: dict[str, OpenDocument] = {}
        # One at a time: the static stage computes, and torch would take every core twice.
        self._static = ThreadPoolExecutor(1)
        self._one_run = asyncio.Lock()
        self._complaint = ""

    @property
    def encoding(self) -> PositionEncoding:
        """The code units that the client and the server have agreed on."""
        return self._server.workspace.position_encoding or types.PositionEncodingKind.Utf16

    def open_document(self, item: types.TextDocumentItem) -> None:
        """Start to watch a document, if it is a Python file."""
        path = get_python_path(item)
        if path is not None:
            self.documents[item.uri] = OpenDocument(item.uri, path)
            self.update_document(item.uri)

    def update_document(self, uri: str) -> None:
        """Take over what the editor shows, and check it once no more keys are pressed."""
        document = self.documents.get(uri)
        if document is not None:
            current = self._server.workspace.get_text_document(uri)
            document.update_text(current.source, current.version)
            self._schedule_check(document, 0.0 if document.marked is None else CHECK_DELAY)

    def save_document(self, uri: str) -> None:
        """Run a document that is on the disk as the editor shows it; an older run of it ends."""
        document = self.documents.get(uri)
        if document is not None:
            if document.running is not None:
                document.running.cancel()
            document.running = self._start_task(partial(self._run_document, document), f"running {document.path}")

    def withdraw_marks(self, uri: str) -> None:
        """Take back what was said about a document, until it changes or is saved again."""
        document = self.documents.get(uri)
        if document is not None:
            document.cancel_tasks()
            document.last_run = None
            self._publish_marks(document, ())

    def close_document(self, uri: str) -> None:
        """Forget a document, and take back what was said about it."""
        self.withdraw_marks(uri)
        self.documents.pop(uri, None)

    def close_all_documents(self) -> None:
        """End everything that runs."""
        for document in self.documents.values():
            document.cancel_tasks()
        self._static.shutdown(wait=False, cancel_futures=True)

    def recheck_documents(self) -> None:
        """Settings have changed: what was said of the documents may no longer be so."""
        for document in self.documents.values():
            document.cancel_tasks()
            document.last_run = None
            self._schedule_check(document, 0.0)

    def find_marks_at(self, uri: str, where: types.Range) -> list[DocumentMark]:
        """What is marked at a place, if the marks are those of the text that the editor shows."""
        document = self.documents.get(uri)
        if document is None or document.marked != document.text:
            return []
        return [mark for mark in document.marks if is_overlapping(mark.diagnostic.range, where)]

    def show_complaint(self, error: UserError) -> None:
        """Show what only the user can mend, once."""
        told = describe_user_error(error)
        if told != self._complaint:
            self._complaint = told
            self._server.window_show_message(types.ShowMessageParams(types.MessageType.Error, told))

    def write_log(self, text: str, kind: types.MessageType = types.MessageType.Info) -> None:
        """Write to the log that the editor keeps."""
        self._server.window_log_message(types.LogMessageParams(kind, text))

    def _schedule_check(self, document: OpenDocument, delay: float) -> None:
        if document.checking is not None:
            document.checking.cancel()
        document.checking = self._start_task(
            partial(self._check_document, document, delay), say_checking(document.path)
        )

    def _start_task(self, work: Callable[[], Awaitable[object]], what: str) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._run_guarded(work, what))

    async def _run_guarded(self, work: Callable[[], Awaitable[object]], what: str) -> None:
        """Whatever goes wrong is told, and is no reason to end the server."""
        try:
            await work()
        except UserError as error:
            self.show_complaint(error)
        except RunError as error:
            self.write_log(say_failed(what, str(error)), types.MessageType.Error)
        except Exception as error:
            _LOG.exception(what)
            self.write_log(say_internal_error(error, what), types.MessageType.Error)

    async def _check_document(self, document: OpenDocument, delay: float) -> bool:
        """Check what the editor shows and publish it; returns whether saving it would have it run."""
        await asyncio.sleep(delay)
        text, inside = document.text, self._find_workspace_folder(document) is not None
        loop = asyncio.get_running_loop()
        try:
            checked = await loop.run_in_executor(
                self._static, self._check_text, document.path, text, self.options, inside
            )
        except UserError:
            self._publish_marks(document, ())
            raise
        self._complaint = ""
        if text == document.text:
            self._mark_document(document, checked.report)
        return checked.would_run

    def _mark_document(self, document: OpenDocument, static: LintReport) -> None:
        """Publish what is known of what the editor shows: ``static``, and what the last run said."""
        text, last_run = document.text, document.last_run
        known = (
            static
            if last_run is None
            else last_run.report
            if last_run.text == text
            else merge_reports(text, static, last_run)
        )
        marker = DiagnosticBuilder(document.uri, text.split("\n"), self.encoding)
        document.marked = text
        self._publish_marks(document, tuple(marker.build_marks(known, self.options.show_cleared)))

    def _publish_marks(self, document: OpenDocument, marks: tuple[DocumentMark, ...]) -> None:
        document.marks = marks
        diagnostics = [mark.diagnostic for mark in marks]
        parameters = types.PublishDiagnosticsParams(document.uri, diagnostics, document.version)
        self._server.text_document_publish_diagnostics(parameters)

    async def _run_document(self, document: OpenDocument) -> None:
        text, folder = document.text, self._find_workspace_folder(document)
        would_run = await self._check_document(document, 0.0)
        if not would_run or folder is None:
            return
        async with self._one_run, show_progress(self._server, say_running(document.path)):
            report = await lint_saved_file(document.path, folder)
        # What was run is what was on the disk, should the two differ.
        document.last_run = FinishedRun(next(iter(report.sources.values()), text), report)
        self._log_run(report)
        await self._check_document(document, 0.0)

    def _log_run(self, report: LintReport) -> None:
        """What is worth knowing about a run, beside what it found."""
        for note in report.notes:
            self.write_log("\n".join(list_note_lines([note])))
        lacking = say_lacking_protections(report.protections)
        if lacking:
            self.write_log(lacking, types.MessageType.Warning)

    def _find_workspace_folder(self, document: OpenDocument) -> str | None:
        """The folder of the workspace that a document lies in, its own where there is none; None if it is outside."""
        workspace = self._server.workspace
        folders = [path for uri in workspace.folders if (path := to_fs_path(uri))]
        folders = folders or ([workspace.root_path] if workspace.root_path else [])
        return find_folder_around(document.path, folders) if folders else os.path.dirname(document.path)


class RunError(Exception):
    """The process ended without an answer; the message holds what it wrote to standard error."""


async def lint_saved_file(path: str, folder: str) -> LintReport:
    """Lint a file from the disk, run it included, with ``folder`` as the working directory.

    Cancelling ends the process, and with it everything that runs below it. Raises UserError and RunError.
    """
    # -P: what lies in the folder must not be imported in place of our modules.
    program = (sys.executable, "-P", "-m", "theria_lint.lsp.check_document", path, str(os.getpid()))
    process = await asyncio.create_subprocess_exec(*program, cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        answer, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            # What it wrote has to be read: the transport waits for the ends of the pipes, which stay full otherwise.
            await process.communicate()
    if process.returncode:
        raise RunError(complaints.decode("utf-8", "replace").strip() or say_ended(process.returncode))
    report: LintReport | UserError = pickle.loads(answer)
    if isinstance(report, UserError):
        raise report
    return report
