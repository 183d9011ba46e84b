"""The blocks of the text format: findings with source and evidence, targets, errors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from theria.verdicts import Verdict
from theria_lint.model import Disposition, Finding, LintError, Report, Run, TargetResult
from theria_lint.report import View
from theria_lint.report.frame import frame
from theria_lint.report.heatmap import heatmap
from theria_lint.report.outcome import explains, is_accepted, unexplained_targets
from theria_lint.report.style import Style, place

# Of a target: path, line, symbol.
Key = tuple[str, int, str]
_COLOURS = {"confirmed": "red", "unconfirmed": "yellow", "cleared": "green"}


def blocks(report: Report, view: View, style: Style) -> Iterator[str]:
    """Every block, without the blank line after it: file by file, then what could not be checked."""
    alone = frozenset(map(_key, unexplained_targets(report)))
    findings = [item for item in report.findings if _is_shown(item, view)]
    targets = [item for item in report.targets if _is_target_shown(item, report, view, alone)]
    for path in sorted({*(item.suspect.path for item in findings), *(item.target.path for item in targets)}):
        for finding in findings:
            if finding.suspect.path == path:
                yield "\n".join(_finding(finding, report, style))
        for result in targets:
            if result.target.path == path:
                yield "\n".join(_target(result, report, view, style, alone))
    yield from _errors(report, style)


def _key(result: TargetResult) -> Key:
    return result.target.path, result.target.line, result.target.symbol


def _is_shown(finding: Finding, view: View) -> bool:
    return finding.disposition is not Disposition.CLEARED or view.show_cleared or view.verbose


def _is_target_shown(result: TargetResult, report: Report, view: View, alone: Collection[Key]) -> bool:
    """Safe targets are not worth a line, nor one whose findings have said all there is to say."""
    if view.verbose or result.verdict is Verdict.INCONCLUSIVE:
        return True
    if not result.verdict.unsafe or is_accepted(report, result):
        return False
    return _key(result) in alone or any(run.blocks for run in result.runs)


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


def _head(result: TargetResult, style: Style) -> str:
    target = result.target
    where = style.paint(place(target.path, None, target.line, 1), bold=True)
    verdict = style.paint(result.verdict.value, _colour(result.verdict), bold=True)
    return f"{where}: target {target.symbol}: {verdict}"


def _colour(verdict: Verdict) -> str:
    if verdict is Verdict.INCONCLUSIVE:
        return "yellow"
    return "red" if verdict.unsafe else "green"


def _target(result: TargetResult, report: Report, view: View, style: Style, alone: Collection[Key]) -> Iterator[str]:
    yield _head(result, style)
    if not any(explains(finding, result) and result.reason in finding.reason for finding in report.findings):
        yield f"  reason: {result.reason}"
    if _key(result) in alone:
        yield "  No suspect explains it: look at what this target calls in other files and libraries."
    for run in result.runs:
        if view.verbose or (run.verdict is result.verdict and run.verdict.unsafe):
            yield f"  {_run_line(run, result)}"
            yield from (f"    {row}" for row in _measured(run, view, style))


def _run_line(run: Run, result: TargetResult) -> str:
    oracle = f", against {run.oracle}" if run.oracle else ""
    reason = f" ({run.reason})" if run.reason and run.reason != result.reason else ""
    verdict = f"run on {run.backend}, {run.device}, {run.dtype}{oracle}: {run.verdict.value}{reason}"
    return f"{verdict}; relative errors:" if run.gradients or run.blocks else verdict


def _measured(run: Run, view: View, style: Style) -> Iterator[str]:
    """What a run found, in numbers and in the target's own words."""
    if run.gradients:
        yield f"gradients  {_numbers(run.gradients)}"
    yield from heatmap(run, style, view.unicode)
    if run.maml:
        figures = {key: value for key, value in run.maml.items() if isinstance(value, float)}
        yield f"under MAML  {_numbers(figures) or run.maml.get('status') or run.maml.get('error')}"
    if run.error and run.error not in run.reason:
        yield " ".join(run.error.split())
    if view.verbose:
        yield from run.notes


def _numbers(values: Mapping[str, object]) -> str:
    return "  ".join(f"{key} {f'{item:.1e}' if isinstance(item, float) else item}" for key, item in values.items())


def _errors(report: Report, style: Style) -> Iterator[str]:
    lines = [_notice(error, style.paint("error", "red", bold=True)) for error in report.errors]
    lines += [_notice(unused, style.paint("warning", "yellow", bold=True)) for unused in report.unused_ignores]
    if lines:
        yield "\n".join(lines)


def _notice(notice: LintError, kind: str) -> str:
    return f"{place(notice.path, notice.cell, notice.line, None)}: {kind}: {notice.message}"
