"""What a report amounts to: unsafe and unexplained targets, the exit code."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from theria_lint.model import Finding, TargetResult
    from theria_lint.result import LintReport


def explains_target(finding: Finding, result: TargetResult) -> bool:
    """Whether a confirmed finding stands in code that an unsafe target runs."""
    from theria_lint.model import Disposition

    confirmed = finding.disposition is Disposition.CONFIRMED and result.verdict.unsafe
    return confirmed and result.target.may_execute(finding.suspect)


def is_accepted(report: LintReport, result: TargetResult) -> bool:
    """Whether the user has silenced everything that makes a target unsafe."""
    return (result.target.path, result.target.symbol) in report.accepted


def list_unsafe_targets(report: LintReport) -> list[TargetResult]:
    """Targets with an unsafe verdict that the user has not accepted."""
    return [result for result in report.targets if result.verdict.unsafe and not is_accepted(report, result)]


def list_unexplained_targets(report: LintReport) -> list[TargetResult]:
    """Unsafe targets that no finding of the report explains."""
    return [
        result
        for result in list_unsafe_targets(report)
        if not any(explains_target(finding, result) for finding in report.findings)
    ]


def compute_exit_code(report: LintReport, fail_on: Collection[str]) -> int:
    """1 if the report holds something of a kind in ``fail_on`` (see ``config.FAIL_ON``), else 0."""
    held = {finding.disposition.value for finding in report.findings}
    held |= {"unsafe"} if list_unsafe_targets(report) else set()
    held |= {"error"} if report.errors else set()
    held |= {"unused-ignore"} if report.unused_ignores else set()
    return int(not held.isdisjoint(fail_on))
