"""``--output-format text``: for people on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from theria.verdicts import Verdict
from theria_lint.model import Disposition, Finding, LintError, Report, TargetResult
from theria_lint.report import View
from theria_lint.report.frame import frame
from theria_lint.report.heatmap import heatmap
from theria_lint.report.outcome import is_accepted, unexplained_targets
from theria_lint.report.style import Style, counted, place

_COLOURS = {"confirmed": "red", "unconfirmed": "yellow", "cleared": "green"}
_WORST = {True: "red", False: "green"}


def render(report: Report, view: View) -> str:
    """Findings with source and evidence, targets that stand for themselves, errors, and a summary."""
    style = Style(view.colour)
    if view.statistics:
        return _statistics(report)
    if view.quiet:
        from theria_lint.report import concise

        return concise.render(report, view)
    blocks = [*_findings(report, view, style), *_targets(report, view, style), *_errors(report, style)]
    return "".join(f"{block}\n\n" for block in blocks) + _summary(report, style) + "\n"


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
    return "yellow" if verdict is Verdict.INCONCLUSIVE else _WORST[verdict.unsafe]


def _target(result: TargetResult, unexplained: bool, view: View, style: Style) -> Iterator[str]:
    yield _head(result, style)
    yield f"  reason: {result.reason}"
    if unexplained:
        yield "  No suspect explains it: look at what this target calls in other files and libraries."
    for run in result.runs:
        if view.verbose or (run.verdict is result.verdict and run.verdict.unsafe):
            yield f"  run on {run.backend}, {run.device}, {run.dtype}, against {run.oracle}: {run.verdict.value}"
            yield from (f"    {row}" for row in heatmap(run, style, view.unicode))
            yield from (f"    {note}" for note in ([run.error] if run.error else []) + list(run.notes))


def _errors(report: Report, style: Style) -> Iterator[str]:
    lines = [_notice(error, style.paint("error", "red", bold=True)) for error in report.errors]
    lines += [_notice(unused, style.paint("warning", "yellow", bold=True)) for unused in report.unused_ignores]
    if lines:
        yield "\n".join(lines)


def _notice(notice: LintError, kind: str) -> str:
    return f"{place(notice.path, notice.cell, notice.line, None)}: {kind}: {notice.message}"


def _summary(report: Report, style: Style) -> str:
    parts = [f"{counted(report.files, 'file')}, {counted(len(report.findings), 'suspect')}"]
    counts = Counter(finding.disposition.value for finding in report.findings)
    parts[0] += _listed(f"{counts[kind.value]} {kind.value}" for kind in Disposition if counts[kind.value])
    if report.targets:
        verdicts = Counter(result.verdict for result in report.targets)
        listed = _listed(f"{verdicts[verdict]} {verdict.value}" for verdict in Verdict if verdicts[verdict])
        parts.append(f"{counted(len(report.targets), 'target')}{listed}")
    if report.errors:
        parts.append(f"{counted(len(report.errors), 'error')}")
    silenced = [(report.ignored, "silenced by ignore comments"), (report.baselined, "accepted by the baseline")]
    parts += [f"{count} {what}" for count, what in silenced if count]
    return style.paint("; ".join(parts) + ".", bold=True)


def _listed(items: Iterable[str]) -> str:
    text = ", ".join(items)
    return f": {text}" if text else ""


def _statistics(report: Report) -> str:
    counts = Counter((item.suspect.rule, item.suspect.name, item.disposition.value) for item in report.findings)
    rows = [f"{count:>6}  {rule} {name}: {kind}" for (rule, name, kind), count in sorted(counts.items())]
    return "".join(row + "\n" for row in rows)
