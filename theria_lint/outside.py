"""Suspects in files that were not linted, but that a target of a linted file runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from theria_lint.model import Finding, Report, TargetResult
from theria_lint.report.outcome import explains


def within(report: Report, files: Collection[str]) -> Report:
    """``report`` as far as it is about ``files``; of the rest, a target's reason says what is to blame for it."""
    linted = frozenset(files)
    others = [finding for finding in report.findings if finding.suspect.path not in linted]
    if not others and all(path in linted for path, _ in report.sources):
        return report
    kept = tuple(finding for finding in report.findings if finding.suspect.path in linted)
    rewritten = {path for finding in kept if finding.rewrite for path, _ in finding.rewrite.files}
    shown = [place for place in report.sources if place[0] in linted]
    shown += [place for place in report.sources if place[0] in rewritten - linted]
    return replace(
        report,
        findings=kept,
        targets=tuple(_told(result, others) for result in report.targets),
        unused_ignores=tuple(error for error in report.unused_ignores if error.path in linted),
        sources={place: report.sources[place] for place in shown},
    )


def _told(result: TargetResult, others: Sequence[Finding]) -> TargetResult:
    suspects = [finding.suspect for finding in others if explains(finding, result)]
    if not suspects:
        return result
    places = [f"{s.rule} on line {s.span.line} of {s.path}" for s in suspects[:3]]
    more = f" and {len(suspects) - 3} more" if len(suspects) > 3 else ""
    told = f"{result.reason}; to blame outside the linted files: {', '.join(places)}{more}"
    return replace(result, reason=told, blames_others=True)
