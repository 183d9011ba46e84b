"""``--output-format concise``: one line a finding, for editors and grep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from theria_lint.report.style import escape_unprintable, format_place, inert
from theria_lint.report.summary import list_unexplained_targets

if TYPE_CHECKING:
    from theria_lint.model import Finding, TargetResult
    from theria_lint.reasons import Reason
    from theria_lint.report import ReportView
    from theria_lint.result import LintError, LintReport


def render(report: LintReport, view: ReportView) -> str:
    """``path:line:column: RULE [disposition verdict, severity] message`` for findings, the like for the rest."""
    return inert("".join(line + "\n" for line in _iter_report_lines(report, view)))


def _iter_report_lines(report: LintReport, view: ReportView) -> Iterator[str]:
    for finding in report.findings:
        if finding.disposition.value != "cleared" or view.show_cleared:
            yield _format_finding_line(finding)
    yield from map(_format_target_line, list_unexplained_targets(report))
    yield from (_format_notice_line(error, "error") for error in report.errors)
    yield from (_format_notice_line(unused, "warning") for unused in report.unused_ignores)


def _format_finding_line(finding: Finding) -> str:
    suspect = finding.suspect
    state = " ".join(filter(None, (finding.disposition.value, finding.verdict)))
    state += f", {finding.suspect.severity}" if finding.disposition.value == "confirmed" else ""
    where = format_place(suspect.path, suspect.cell, suspect.span.line, suspect.span.column)
    return f"{where}: {escape_unprintable(suspect.rule)} [{state}] {_join_lines(suspect.message)}"


def _format_target_line(result: TargetResult) -> str:
    target = result.target
    where = format_place(target.path, None, target.line, 1)
    told = f"{escape_unprintable(result.name)}: {_say_head(result.reason)}"
    return f"{where}: unsafe [{result.verdict.value}] {told}"


def _format_notice_line(notice: LintError, kind: str) -> str:
    where = format_place(notice.path, notice.cell, notice.line or 1, 1)
    return f"{where}: {kind}: {_say_head(notice.reason)}"


def _say_head(reason: Reason) -> str:
    from theria_lint.report.sentences import compose_message  # a clean file has nothing to say

    return _join_lines(compose_message(reason).head)


def _join_lines(text: str) -> str:
    return escape_unprintable(" ".join(text.split()))
