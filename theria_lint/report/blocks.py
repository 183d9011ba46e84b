"""The blocks of the text format: findings with source and evidence, targets, errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from theria.verdicts import Verdict
from theria_lint.model import Disposition, Finding, LintError, Report, Run, TargetResult
from theria_lint.report import View
from theria_lint.report.frame import frame
from theria_lint.report.heatmap import heatmap
from theria_lint.report.outcome import is_accepted, unexplained_targets
from theria_lint.report.style import Style, place

_COLOURS = {"confirmed": "red", "unconfirmed": "yellow", "cleared": "green"}


def blocks(report: Report, view: View, style: Style) -> Iterator[str]:
    """Every block, without the blank line after it."""
    yield from _findings(report, view, style)
    yield from _targets(report, view, style)
    yield from _errors(report, style)


def _findings(report: Report, view: View, style: Style) -> Iterator[str]:
    for finding in report.findings:
        if finding.disposition is not Disposition.CLEARED or view.show_cleared or view.verbose:
            yield "\n".join(_finding(finding, report, style))


def _finding(finding: Finding, report: Report, style: Style) -> Iterator[str]:
    suspect = finding.suspect
    disposition = style.paint(finding.disposition.value, _COLOURS[finding.disposition.value], bold=True)
    verdict = f", {finding.verdict.value}" if finding.verdict else ""
    where = style.paint(place(suspect.path, suspect.cell, suspect.span.line, suspect.span.column), bold=True)
    yield f"{where}: {suspect.rule} {suspect.name}: {disposition}{verdict} ({suspect.severity})"
    yield f"  {suspect.message}"
    yield from (f"  {row}" for row in frame(report.sources.get((suspect.path, suspect.cell), ""), suspect.span, style))
    yield f"  evidence: {finding.reason}"
    yield f"  remedy: {suspect.remedy}"


def _targets(report: Report, view: View, style: Style) -> Iterator[str]:
    unexplained = unexplained_targets(report)
    for result in report.targets:
        if view.verbose or result in unexplained or _worth_a_map(report, result):
            yield "\n".join(_target(result, result in unexplained, view, style))
        elif result.verdict is Verdict.INCONCLUSIVE:
            yield _head(result, style) + f"\n  reason: {result.reason}"


def _worth_a_map(report: Report, result: TargetResult) -> bool:
    return result.verdict.unsafe and not is_accepted(report, result)


def _head(result: TargetResult, style: Style) -> str:
    target = result.target
    where = style.paint(place(target.path, None, target.line, 1), bold=True)
    verdict = style.paint(result.verdict.value, _colour(result.verdict), bold=True)
    return f"{where}: target {target.symbol}: {verdict}"


def _colour(verdict: Verdict) -> str:
    if verdict is Verdict.INCONCLUSIVE:
        return "yellow"
    return "red" if verdict.unsafe else "green"


def _target(result: TargetResult, unexplained: bool, view: View, style: Style) -> Iterator[str]:
    yield _head(result, style)
    yield f"  reason: {result.reason}"
    if unexplained:
        yield "  No suspect explains it: look at what this target calls in other files and libraries."
    for run in result.runs:
        if view.verbose or (run.verdict is result.verdict and run.verdict.unsafe):
            reason = f" ({run.reason})" if run.reason and run.reason != result.reason else ""
            oracle = f", against {run.oracle}" if run.oracle else ""
            where = f"{run.backend}, {run.device}, {run.dtype}{oracle}"
            yield f"  run on {where}: {run.verdict.value}{reason}"
            yield from (f"    {row}" for row in _measured(run, view, style))


def _measured(run: Run, view: View, style: Style) -> Iterator[str]:
    """What a run found, in numbers and in the target's own words."""
    if run.gradients:
        yield f"error of the gradients: {_numbers(run.gradients)}"
    yield from heatmap(run, style, view.unicode)
    if run.maml:
        yield f"under MAML: {_numbers(run.maml)}"
    if run.error:
        yield " ".join(run.error.split())
    yield from run.notes


def _numbers(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {f'{item:.1e}' if isinstance(item, float) else item}" for key, item in values.items())


def _errors(report: Report, style: Style) -> Iterator[str]:
    lines = [_notice(error, style.paint("error", "red", bold=True)) for error in report.errors]
    lines += [_notice(unused, style.paint("warning", "yellow", bold=True)) for unused in report.unused_ignores]
    if lines:
        yield "\n".join(lines)


def _notice(notice: LintError, kind: str) -> str:
    return f"{place(notice.path, notice.cell, notice.line, None)}: {kind}: {notice.message}"
