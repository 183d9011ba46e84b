"""What a report amounts to: unsafe and unexplained targets, the exit code."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from theria_lint.model import Finding, Target, TargetResult
    from theria_lint.result import LintReport


class FindingIndex:
    """Findings by the code that they stand in: which of them a target may execute."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self._by_symbol: dict[str, dict[str, list[Finding]]] = {}
        for finding in findings:
            suspect = finding.suspect
            self._by_symbol.setdefault(suspect.path, {}).setdefault(suspect.symbol, []).append(finding)

    def list_symbols(self, target: Target) -> list[tuple[str, Collection[str]]]:
        """The code with such findings that a target may execute: by path, its own file first, the symbols."""
        elsewhere: dict[str, list[str]] = {}
        for path, symbol in target.beyond:
            if symbol in self._by_symbol.get(path, ()):
                elsewhere.setdefault(path, []).append(symbol)
        # Of the two the smaller one is walked through.
        own = self._by_symbol.get(target.path, {}).keys() & target.reaches
        return [*([(target.path, own)] if own else []), *sorted(elsewhere.items())]

    def list_findings(self, target: Target, most: int) -> list[Finding]:
        """Those findings, at most so many, by place, of the target's own file first."""
        from heapq import nsmallest

        found: list[Finding] = []
        for path, symbols in self.list_symbols(target):
            here = self._by_symbol[path]
            for symbol in nsmallest(most, symbols, key=lambda name: here[name][0].suspect.span):
                found += here[symbol][: most - len(found)]
        return found

    def count_findings(self, target: Target) -> int:
        """How many there are."""
        return sum(len(self._by_symbol[path][symbol]) for path, found in self.list_symbols(target) for symbol in found)


class Explanations:
    """Which confirmed findings explain which unsafe targets: those that stand in code that the target runs."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self._index = FindingIndex(item for item in findings if item.disposition.value == "confirmed")

    def explain(self, result: TargetResult) -> bool:
        """Whether a target is unsafe, and a finding explains it."""
        return bool(self.list_symbols(result))

    def list_symbols(self, result: TargetResult) -> list[tuple[str, Collection[str]]]:
        """The code that holds such findings: by path the symbols."""
        return self._index.list_symbols(result.target) if result.verdict.unsafe else []

    def list_findings(self, result: TargetResult, most: int) -> list[Finding]:
        """The findings that explain a target, at most so many."""
        return self._index.list_findings(result.target, most) if result.verdict.unsafe else []


def is_accepted(report: LintReport, result: TargetResult) -> bool:
    """Whether the user has silenced everything that makes a target unsafe."""
    return (result.target.path, result.name) in report.accepted


def list_unsafe_targets(report: LintReport) -> list[TargetResult]:
    """Targets with an unsafe verdict that the user has not accepted."""
    return [result for result in report.targets if result.verdict.unsafe and not is_accepted(report, result)]


def list_unexplained_targets(report: LintReport) -> list[TargetResult]:
    """Unsafe targets that no finding of the report explains."""
    explanations = Explanations(report.findings)
    return [result for result in list_unsafe_targets(report) if not explanations.explain(result)]


def _is_mere_note(finding: Finding) -> bool:
    """Whether a finding is harmless as a rule, and nothing was seen of harm."""
    return finding.suspect.severity == "note" and finding.disposition.value == "unconfirmed"


def is_out_of_time(report: LintReport) -> bool:
    """Whether the run ended because its time was over."""
    return any(note.code == "left_out" for note in report.notes)


def compute_exit_code(report: LintReport, fail_on: Collection[str]) -> int:
    """1 if the report holds something of a kind in ``fail_on`` (see ``config.FAIL_ON``), else 0.

    A note fails a run where it is confirmed.
    """
    held = {finding.disposition.value for finding in report.findings if not _is_mere_note(finding)}
    held |= {"unsafe"} if list_unsafe_targets(report) else set()
    held |= {"error"} if report.errors else set()
    held |= {"unused-ignore"} if report.unused_ignores else set()
    return int(not held.isdisjoint(fail_on))
