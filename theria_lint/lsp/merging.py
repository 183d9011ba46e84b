"""What is known of a text that was edited since it was run: its own suspects, with what the run said of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from theria_lint.model import Finding
from theria_lint.result import Report

AS_SAVED = "as last saved: "
_Key = tuple[str, str, str, int]


class Ran(NamedTuple):
    """A finished run of the dynamic stage: the text that was run, and what it gave."""

    text: str
    report: Report


def merge(text: str, report: Report, ran: Ran) -> Report:
    """The static ``report`` of ``text``; a suspect that was run keeps its disposition, and says of when it is."""
    before = dict(_keyed(ran.text, ran.report.findings))
    findings = (_carried(finding, before.get(key)) for key, finding in _keyed(text, report.findings))
    return replace(report, findings=tuple(findings))


def _carried(now: Finding, before: Finding | None) -> Finding:
    if before is None:
        return now
    return replace(before, suspect=now.suspect, reason=AS_SAVED + before.reason, rewrite=None)


def _keyed(text: str, findings: Iterable[Finding]) -> Iterator[tuple[_Key, Finding]]:
    """Each finding under what stays when lines move: rule, symbol, the text of its line, and which of equal ones."""
    rows, seen = text.split("\n"), Counter[tuple[str, str, str]]()
    for finding in findings:
        suspect = finding.suspect
        same = (suspect.rule, suspect.symbol, rows[suspect.span.line - 1].strip())
        seen[same] += 1
        yield (*same, seen[same]), finding
