"""Where everything stands on the page, and what belongs together."""

from __future__ import annotations

from collections.abc import Iterable

from theria.verdicts import Verdict
from theria_lint.model import Disposition, Finding, Report, TargetResult
from theria_lint.report.html.words import DISPOSITIONS
from theria_lint.report.outcome import explains


class Index:
    """The anchors of findings, targets and sources, and the links between them."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.findings = sorted(report.findings, key=lambda finding: list(DISPOSITIONS).index(finding.disposition))
        self.targets = sorted(report.targets, key=lambda result: list(Verdict).index(result.verdict))
        self._findings = {id(finding): f"f{number}" for number, finding in enumerate(self.findings, 1)}
        self._targets = {id(result): f"t{number}" for number, result in enumerate(self.targets, 1)}
        self._sources = {place: f"s{number}" for number, place in enumerate(report.sources, 1)}

    def finding(self, finding: Finding) -> str:
        """The anchor of a finding of the report."""
        return self._findings[id(finding)]

    def target(self, result: TargetResult) -> str:
        """The anchor of a target of the report."""
        return self._targets[id(result)]

    def source(self, path: str, cell: int | None) -> str | None:
        """The anchor of a source, None where the report has no text of it."""
        return self._sources.get((path, cell))

    def line(self, path: str, cell: int | None, line: int) -> str | None:
        """The anchor of a line, None where the report has no text of it."""
        source = self.source(path, cell)
        is_there = source and line <= self.report.sources[path, cell].count("\n") + 1
        return f"{source}-{line}" if is_there else None

    def findings_in(self, path: str, cell: int | None) -> list[Finding]:
        """The findings of one source, by place."""
        here = [f for f in self.findings if (f.suspect.path, f.suspect.cell) == (path, cell)]
        return sorted(here, key=lambda finding: finding.suspect.span)

    def findings_of(self, result: TargetResult) -> list[Finding]:
        """The findings that a target may execute."""
        return [finding for finding in self.findings if result.target.may_execute(finding.suspect)]

    def targets_of(self, finding: Finding) -> list[TargetResult]:
        """The targets that a finding breaks, or that cleared it."""
        if finding.disposition is Disposition.CONFIRMED:
            return [result for result in self.targets if explains(finding, result)]
        return [result for result in self.targets if result.target.may_execute(finding.suspect)]


def listed(values: Iterable[str]) -> str:
    """Values of an attribute, each once, parted by spaces."""
    return " ".join(dict.fromkeys(values))
