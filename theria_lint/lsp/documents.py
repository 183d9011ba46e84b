"""An open document, and the results that are known of it."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from lsprotocol import types
from pygls.uris import to_fs_path

from theria_lint.lsp.client import ClientOptions, detect_newline, normalise_text
from theria_lint.lsp.diagnostics import DocumentMark
from theria_lint.model import Finding
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.result import LintReport


@dataclass(eq=False)
class OpenDocument:
    """``text`` is what the editor shows, normalised; ``marks`` belong to ``marked``, the text that was last checked.

    ``checking`` and ``running`` are the tasks that check and run it, if there are any.
    """

    uri: str
    path: str
    text: str = ""
    newline: str = "\n"
    version: int | None = None
    marks: tuple[DocumentMark, ...] = ()
    marked: str | None = None
    last_run: FinishedRun | None = None
    checking: asyncio.Task[None] | None = None
    running: asyncio.Task[None] | None = None

    def update_text(self, source: str, version: int | None) -> None:
        """Take over what the editor shows."""
        self.text, self.newline, self.version = normalise_text(source), detect_newline(source), version

    def cancel_tasks(self) -> None:
        """End whatever is being done with it."""
        for task in (self.checking, self.running):
            if task is not None:
                task.cancel()


def get_python_path(document: types.TextDocumentItem) -> str | None:
    """The path of a Python file; None for what is none, or no file: a notebook, its cells, a buffer without a name."""
    path = os.path.normpath(to_fs_path(document.uri) or "")
    is_python = document.language_id == "python" and not path.endswith(".ipynb")
    return path if path != "." and (is_python or path.endswith(".py")) else None


def find_folder_around(path: str, folders: Iterable[str]) -> str | None:
    """The innermost of some folders that a path lies in."""
    around = [folder for folder in folders if _is_inside_folder(path, folder)]
    return max(around, key=len, default=None)


def _is_inside_folder(path: str, folder: str) -> bool:
    try:
        return os.path.commonpath([path, folder]) == os.path.normpath(folder)
    except ValueError:  # two drives
        return False


_FindingKey = tuple[str, str, str, int]


class StaticCheck(NamedTuple):
    """What the static stage found, and whether saving the document would have it run."""

    report: LintReport
    would_run: bool


CheckText = Callable[[str, str, ClientOptions, bool], StaticCheck]
"""Checks a text as the content of a path: see ``check_document.check_text``."""


class FinishedRun(NamedTuple):
    """A finished run of the dynamic stage: the text that was run, and what it gave."""

    text: str
    report: LintReport


def merge_reports(text: str, report: LintReport, last_run: FinishedRun) -> LintReport:
    """The static ``report`` of ``text``; a suspect that was run keeps its disposition, and says of when it is."""
    before = dict(_key_findings(last_run.text, last_run.report.findings))
    findings = (_carry_disposition(finding, before.get(key)) for key, finding in _key_findings(text, report.findings))
    return report._replace(findings=tuple(findings))


def _carry_disposition(now: Finding, before: Finding | None) -> Finding:
    if before is None:
        return now
    return replace(
        before, suspect=now.suspect, reason=Reason(ReasonCode.AS_LAST_SAVED, {"reason": before.reason}), rewrite=None
    )


def _key_findings(text: str, findings: Iterable[Finding]) -> Iterator[tuple[_FindingKey, Finding]]:
    """Each finding under what stays when lines move: rule, symbol, the text of its line, and which of equal ones."""
    rows, seen = text.split("\n"), Counter[tuple[str, str, str]]()
    for finding in findings:
        suspect = finding.suspect
        same = (suspect.rule, suspect.symbol, rows[suspect.span.line - 1].strip())
        seen[same] += 1
        yield (*same, seen[same]), finding
