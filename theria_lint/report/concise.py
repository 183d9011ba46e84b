"""``--output-format concise``: one line a finding, for editors and grep."""

from __future__ import annotations

from collections.abc import Iterator

from theria_lint.model import Disposition, Finding, TargetResult
from theria_lint.report import View
from theria_lint.report.style import inert, place, printable
from theria_lint.report.summary import unexplained_targets
from theria_lint.result import LintError, Report


def render(report: Report, view: View) -> str:
    """``path:line:column: RULE [disposition verdict] message``, then unsafe targets, errors and unused comments."""
    return inert("".join(line + "\n" for line in _lines(report, view)))


def _lines(report: Report, view: View) -> Iterator[str]:
    for finding in report.findings:
        if finding.disposition is not Disposition.CLEARED or view.show_cleared:
            yield _finding(finding)
    yield from map(_target, unexplained_targets(report))
    yield from (_notice(error, "error") for error in report.errors)
    yield from (_notice(unused, "warning") for unused in report.unused_ignores)


def _finding(finding: Finding) -> str:
    suspect = finding.suspect
    state = " ".join(filter(None, (finding.disposition.value, finding.verdict)))
    where = place(suspect.path, suspect.cell, suspect.span.line, suspect.span.column)
    return f"{where}: {printable(suspect.rule)} [{state}] {_one_line(suspect.message)}"


def _target(result: TargetResult) -> str:
    target = result.target
    where = place(target.path, None, target.line, 1)
    return f"{where}: unsafe [{result.verdict.value}] {printable(target.symbol)}: {_one_line(result.reason)}"


def _notice(notice: LintError, kind: str) -> str:
    return f"{place(notice.path, notice.cell, notice.line or 1, 1)}: {kind}: {_one_line(notice.message)}"


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))
