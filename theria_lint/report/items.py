"""Flatten a report for machine formats: one list of items with level and fingerprint."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from theria.wording import Message, squeeze
from theria_lint.model import Disposition, Finding
from theria_lint.report import ReportView
from theria_lint.report.sentences import compose_message
from theria_lint.report.style import get_stripped_row
from theria_lint.report.summary import list_unexplained_targets
from theria_lint.report.unexplained import UnexplainedTargets
from theria_lint.result import LintError, LintReport

UNSAFE = "unsafe-target"
ERROR = "not-checked"
UNUSED = "unused-ignore"


@dataclass(frozen=True)
class ReportItem:
    """One thing to report; ``level`` is error, warning or note, ``fingerprint`` stays when lines move.

    ``text`` is one line, ``notes`` and ``helps`` are what is told beside it. ``finding`` is what the item was made of,
    None for what is no finding.
    """

    rule: str
    name: str
    level: str
    path: str
    cell: int | None
    line: int
    column: int
    end_line: int
    end_column: int
    title: str
    text: str
    notes: tuple[str, ...]
    helps: tuple[str, ...]
    fingerprint: str
    finding: Finding | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """The text, the notes and what helps, each on lines of its own."""
        return (self.text, *(f"note: {note}" for note in self.notes), *(f"help: {help_}" for help_ in self.helps))


def list_items(report: LintReport, view: ReportView) -> list[ReportItem]:
    """Findings (cleared ones if wanted), unsafe targets that no finding explains, errors, unused ignore comments."""
    seen: Counter[str] = Counter()
    return [_number_item(item, seen) for item in _iter_items(report, view)]


def get_level(finding: Finding) -> str:
    """A confirmed finding is as grave as its rule, an unconfirmed one a warning at most, a cleared one a note."""
    if finding.disposition is Disposition.CLEARED:
        return "note"
    if finding.disposition is Disposition.UNCONFIRMED and finding.suspect.severity == "error":
        return "warning"
    return finding.suspect.severity


def _iter_items(report: LintReport, view: ReportView) -> Iterator[ReportItem]:
    for finding in report.findings:
        if finding.disposition is not Disposition.CLEARED or view.show_cleared:
            yield _make_finding_item(finding, report)
    unexplained = UnexplainedTargets(report)
    for result in list_unexplained_targets(report):
        target = result.target
        told = compose_message(result.reason)
        message = Message(f"{result.name} is {result.verdict.value}: {told.head}", told.notes, told.helps)
        message = unexplained.explain(result, message)
        yield _make_item(UNSAFE, "error", target.path, None, target.line, message, result.name)
    for error in report.errors:
        yield _make_notice_item(ERROR, "error", error)
    for unused in report.unused_ignores:
        yield _make_notice_item(UNUSED, "note", unused)


def _make_notice_item(rule: str, level: str, notice: LintError) -> ReportItem:
    message = compose_message(notice.reason)
    return _make_item(rule, level, notice.path, notice.cell, notice.line or 1, message, message.head)


def _make_finding_item(finding: Finding, report: LintReport) -> ReportItem:
    suspect, span = finding.suspect, finding.suspect.span
    source = get_stripped_row(report.sources.get((suspect.path, suspect.cell), ""), span.line)
    state = " ".join(filter(None, (finding.disposition.value, finding.verdict)))
    told = compose_message(finding.reason)
    return ReportItem(
        suspect.rule,
        suspect.name,
        get_level(finding),
        suspect.path,
        suspect.cell,
        span.line,
        span.column,
        span.end_line,
        span.end_column,
        f"{suspect.rule} {suspect.name}: {state}",
        f"{suspect.message} ({state}: {told.head})",
        told.notes,
        tuple(filter(None, (squeeze(suspect.remedy.rstrip(".")), *told.helps))),
        "\0".join((suspect.rule, suspect.path, suspect.symbol, _shorten(source))),
        finding,
    )


@lru_cache(maxsize=256)
def _shorten(row: str) -> str:
    """What stands for a row in a fingerprint: of a long one, in which many findings may stand, its hash."""
    is_long = len(row) > 1000
    return hashlib.sha256(row.encode("utf-8", "surrogatepass")).hexdigest() if is_long else row


def _make_item(rule: str, level: str, path: str, cell: int | None, line: int, message: Message, key: str) -> ReportItem:
    identity = "\0".join((rule, path, key))
    place = (path, cell, line, 1, line, 1)
    return ReportItem(rule, rule, level, *place, rule, message.head, message.notes, message.helps, identity)


def _number_item(item: ReportItem, seen: Counter[str]) -> ReportItem:
    """The item with its identity hashed; equal ones are told apart by their order."""
    seen[item.fingerprint] += 1
    identity = f"{item.fingerprint}\0{seen[item.fingerprint]}".encode("utf-8", "surrogatepass")
    return replace(item, fingerprint=hashlib.sha256(identity).hexdigest()[:32])
