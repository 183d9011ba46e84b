"""The blocks of the text format: findings with source and evidence, targets, errors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from theria.verdicts import Verdict
from theria_lint.model import Disposition, Finding, Rewrite, Run, TargetResult
from theria_lint.report import View
from theria_lint.report.grid import gradients, heatmap
from theria_lint.report.patch import Edit, edits
from theria_lint.report.style import WIDEST, Style, counted, fitted, frame, place, printable, wrapped
from theria_lint.report.summary import explains, is_accepted, unexplained_targets
from theria_lint.result import LintError, Report

# Of a target: path, line, symbol.
Key = tuple[str, int, str]
# What a file's runs have shown so far: the rows, and the run that showed them.
Measured = dict[tuple[str, ...], str]
_COLOURS = {"confirmed": "red", "unconfirmed": "yellow", "cleared": "green"}


def blocks(report: Report, view: View, style: Style) -> Iterator[str]:
    """Every block, without the blank line after it: file by file, then what could not be checked."""
    alone = frozenset(map(_key, unexplained_targets(report)))
    findings = [item for item in report.findings if _is_shown(item, view)]
    targets = [item for item in report.targets if _is_target_shown(item, report, view, alone)]
    for path in sorted({*(item.suspect.path for item in findings), *(item.target.path for item in targets)}):
        for finding in findings:
            if finding.suspect.path == path:
                yield "\n".join(_finding(finding, report, view, style))
        measured: Measured = {}
        for result in targets:
            if result.target.path == path:
                yield "\n".join(_target(result, report, view, style, alone, measured))
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


def _finding(finding: Finding, report: Report, view: View, style: Style) -> Iterator[str]:
    suspect, colour = finding.suspect, _COLOURS[finding.disposition.value]
    disposition = style.paint(finding.disposition.value, colour, bold=True)
    verdict = f", {finding.verdict.value}" if finding.verdict else ""
    where = style.paint(place(suspect.path, suspect.cell, suspect.span.line, suspect.span.column), bold=True)
    rule = printable(f"{suspect.rule} {suspect.name}")
    yield f"{where}: {rule}: {disposition}{verdict} ({suspect.severity})"
    yield from wrapped(suspect.message, "  ", view.width)
    widest = view.width - 2 if view.width else WIDEST
    source = report.sources.get((suspect.path, suspect.cell), "")
    yield from (f"  {row}" for row in frame(source, suspect.span, style, colour, widest))
    yield from wrapped(f"evidence: {finding.reason}", "  ", view.width)
    yield from wrapped(f"remedy: {suspect.remedy}", "  ", view.width)
    if finding.rewrite:
        yield from (f"  {row}" for row in changes(finding.rewrite, suspect.path, report, view, style))


def _head(result: TargetResult, style: Style) -> str:
    target = result.target
    where = style.paint(place(target.path, None, target.line, 1), bold=True)
    verdict = style.paint(result.verdict.value, _colour(result.verdict), bold=True)
    return f"{where}: target {printable(target.symbol)}: {verdict}"


def _colour(verdict: Verdict) -> str:
    if verdict is Verdict.INCONCLUSIVE:
        return "yellow"
    return "red" if verdict.unsafe else "green"


def _target(
    result: TargetResult, report: Report, view: View, style: Style, alone: Collection[Key], measured: Measured
) -> Iterator[str]:
    yield _head(result, style)
    if not any(explains(finding, result) and result.reason in finding.reason for finding in report.findings):
        yield from wrapped(f"reason: {result.reason}", "  ", view.width)
    if _key(result) in alone and not result.blames_others:
        yield "  No suspect explains it: look at what this target calls in other files and libraries."
    for run in result.runs:
        if view.verbose or (run.verdict is result.verdict and run.verdict.unsafe):
            name = f"{result.target.symbol} on {run.backend}"
            seen = measured.setdefault(tuple(_errors_of(run, view, style)), name)
            is_new = view.verbose or not run.blocks or seen == name
            yield from wrapped(_run_line(run, result, None if is_new else seen), "  ", view.width)
            yield from (f"    {row}" for row in (_measured(run, view, style) if is_new else ()))


def _run_line(run: Run, result: TargetResult, before: str | None) -> str:
    oracle = f", against {run.oracle}" if run.oracle else ""
    reason = f" ({run.reason})" if run.reason and run.reason != result.reason else ""
    verdict = f"run on {run.backend}, {run.device}, {run.dtype}{oracle}: {run.verdict.value}{reason}"
    if before:
        return f"{verdict}; the same errors as {before}"
    return f"{verdict}; relative errors:" if run.gradients or run.blocks else verdict


def _measured(run: Run, view: View, style: Style) -> Iterator[str]:
    """What a run found, in numbers and in the target's own words."""
    yield from _errors_of(run, view, style)
    if run.maml:
        figures = {key: value for key, value in run.maml.items() if isinstance(value, float)}
        yield printable(f"under MAML  {_numbers(figures) or run.maml.get('status') or run.maml.get('error')}")
    if run.error and run.error not in run.reason:
        yield from wrapped(run.error, "", view.width)
    if view.verbose:
        yield from (line for note in run.notes for line in wrapped(note, "", view.width))


def _errors_of(run: Run, view: View, style: Style) -> Iterator[str]:
    if run.gradients:
        yield gradients(run, style, view.unicode)
    yield from heatmap(run, style, view.unicode)


def _numbers(values: Mapping[str, object]) -> str:
    return "  ".join(f"{key} {f'{item:.1e}' if isinstance(item, float) else item}" for key, item in values.items())


def _errors(report: Report, style: Style) -> Iterator[str]:
    lines = [_notice(error, style.paint("error", "red", bold=True)) for error in report.errors]
    lines += [_notice(unused, style.paint("warning", "yellow", bold=True)) for unused in report.unused_ignores]
    if lines:
        yield "\n".join(lines)


def _notice(notice: LintError, kind: str) -> str:
    return f"{place(notice.path, notice.cell, notice.line, None)}: {kind}: {printable(notice.message)}"


_LONGEST = 12


def changes(rewrite: Rewrite, path: str, report: Report, view: View, style: Style) -> Iterator[str]:
    """What was rewritten and run; ``path`` is where the finding stands, so that only other files are named."""
    yield f"rewrite: with this change {printable(rewrite.symbol)} was run, and is safe; your files are as they were"
    rows = [row for edit in edits(rewrite, report.sources) for row in _rows(edit, path, report, view, style)]
    yield from (f"  {row}" for row in rows[:_LONGEST])
    if len(rows) > _LONGEST:
        yield f"  ({counted(len(rows) - _LONGEST, 'more line')}; --output-format html shows all)"


def _rows(edit: Edit, path: str, report: Report, view: View, style: Style) -> Iterator[str]:
    old = report.sources[edit.path, None].split("\n")[edit.line - 1 : edit.end_line - 1]
    where = "" if edit.path == path else f"{place(edit.path, None, None, None)}:"
    width = len(str(edit.line + max(len(old), len(edit.lines))))
    for sign, colour, lines in (("-", "red", old), ("+", "green", edit.lines)):
        for number, line in enumerate(lines, edit.line):
            head = f"{sign} {where}{number:>{width}} | "
            yield style.paint(
                head + fitted(line, (view.width - 4 if view.width else WIDEST) - len(head)), colour
            ).rstrip()
