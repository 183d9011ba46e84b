"""Flatten a report for machine formats: one list of items with level and fingerprint."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from theria_lint.model import Disposition, Finding
from theria_lint.report import ReportView
from theria_lint.report.sentences import say
from theria_lint.report.style import get_stripped_row
from theria_lint.report.summary import list_unexplained_targets
from theria_lint.result import LintReport

UNSAFE = "unsafe-target"
ERROR = "not-checked"
UNUSED = "unused-ignore"
# By whether the target's reason names suspects in files that were not linted.
ADVICE = {False: "Look at what it calls in other files and libraries.", True: "Lint the files that it names too."}


@dataclass(frozen=True)
class ReportItem:
    """One thing to report; ``level`` is error, warning or note, ``fingerprint`` stays when lines move.

    ``finding`` is what the item was made of, None for what is no finding.
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
    remedy: str
    fingerprint: str
    finding: Finding | None = None


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
    for result in list_unexplained_targets(report):
        target = result.target
        rest = "" if result.blames_others else ", and no suspect explains it"
        text = f"{result.name} is {result.verdict.value}: {say(result.reason)}{rest}."
        remedy = ADVICE[result.blames_others]
        yield _make_item(UNSAFE, UNSAFE, "error", target.path, None, target.line, text, remedy, result.name)
    for error in report.errors:
        yield _make_item(
            ERROR, ERROR, "error", error.path, error.cell, error.line or 1, error.message, "", error.message
        )
    for unused in report.unused_ignores:
        text = unused.message
        yield _make_item(UNUSED, UNUSED, "note", unused.path, unused.cell, unused.line or 1, text, "", text)


def _make_finding_item(finding: Finding, report: LintReport) -> ReportItem:
    suspect, span = finding.suspect, finding.suspect.span
    source = get_stripped_row(report.sources.get((suspect.path, suspect.cell), ""), span.line)
    state = " ".join(filter(None, (finding.disposition.value, finding.verdict)))
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
        f"{suspect.message} ({state}: {say(finding.reason)})",
        suspect.remedy,
        "\0".join((suspect.rule, suspect.path, suspect.symbol, _shorten(source))),
        finding,
    )


@lru_cache(maxsize=256)
def _shorten(row: str) -> str:
    """What stands for a row in a fingerprint: of a long one, in which many findings may stand, its hash."""
    is_long = len(row) > 1000
    return hashlib.sha256(row.encode("utf-8", "surrogatepass")).hexdigest() if is_long else row


def _make_item(
    rule: str, name: str, level: str, path: str, cell: int | None, line: int, text: str, remedy: str, key: str
) -> ReportItem:
    identity = "\0".join((rule, path, key))
    return ReportItem(rule, name, level, path, cell, line, 1, line, 1, name, text, remedy, identity)


def _number_item(item: ReportItem, seen: Counter[str]) -> ReportItem:
    """The item with its identity hashed; equal ones are told apart by their order."""
    seen[item.fingerprint] += 1
    identity = f"{item.fingerprint}\0{seen[item.fingerprint]}".encode("utf-8", "surrogatepass")
    return replace(item, fingerprint=hashlib.sha256(identity).hexdigest()[:32])
