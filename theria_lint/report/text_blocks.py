"""The blocks of the text format: findings with source and evidence, targets, errors."""

from __future__ import annotations

from collections.abc import Iterator

from theria.verdicts import Verdict, format_legend
from theria.wording import Message
from theria_lint.model import AS_IT_IS, Disposition, Finding, Rewrite, Run, TargetResult
from theria_lint.reasons import ReasonCode, iter_reasons
from theria_lint.report import ReportView
from theria_lint.report.grid import format_gradients, format_heatmap
from theria_lint.report.measurement_messages import describe_maml, describe_run
from theria_lint.report.patch import LineEdit, list_edits
from theria_lint.report.sentences import compose_message, say
from theria_lint.report.style import (
    MAX_FRAME_WIDTH,
    TerminalStyle,
    escape_unprintable,
    fit_row,
    format_count,
    format_place,
    frame_source,
    split_rows,
    wrap_text,
)
from theria_lint.report.summary import Explanations, is_accepted
from theria_lint.report.unexplained import UnexplainedTargets
from theria_lint.result import LintError, LintReport
from theria_lint.rules.loader import find_rule_link

# Of a target: path, line, name.
TargetKey = tuple[str, int, str]
# What a file's runs have shown so far: the rows, and the run that showed them.
MeasuredRuns = dict[tuple[str, ...], str]
_COLOURS = {"confirmed": "red", "unconfirmed": "yellow", "cleared": "green"}


def iter_blocks(report: LintReport, view: ReportView, style: TerminalStyle) -> Iterator[str]:
    """Every block, without the blank line after it: file by file, then what could not be checked."""
    alone = UnexplainedTargets(report)
    findings = [item for item in report.findings if _is_shown(item, view)]
    targets = [item for item in report.targets if _is_target_shown(item, report, view, alone)]
    shown = targets
    by_path: dict[str, tuple[list[Finding], list[TargetResult]]] = {}
    for finding in findings:
        by_path.setdefault(finding.suspect.path, ([], []))[0].append(finding)
    for result in targets:
        by_path.setdefault(result.target.path, ([], []))[1].append(result)
    told, evidence = _ToldReasons(report), _EvidenceLines(report)
    for _, (findings, targets) in sorted(by_path.items(), key=lambda item: item[0]):
        for finding in findings:
            yield "\n".join(_format_finding(finding, evidence, report, view, style))
        measured: MeasuredRuns = {}
        for result in targets:
            yield "\n".join(_format_target(result, told, view, style, alone, measured))
    yield from _format_errors(report, view, style)
    if any(run.blocks for result in shown for run in result.runs):
        yield f"blocks: {format_legend(view.unicode)}"


def format_message(name: str, message: Message, view: ReportView, remedy: str | None = None) -> Iterator[str]:
    """The head of a message under a name, then its notes, then what helps: blocks to paste on lines of their own."""
    yield from wrap_text(f"{name}: {message.head}", "  ", view.width)
    for note in message.notes:
        yield from wrap_text(f"note: {note}", "  ", view.width)
    for help_ in (*([remedy.rstrip(".")] if remedy else []), *message.helps):
        first, *block = help_.split("\n")
        yield from wrap_text(f"help: {first}", "  ", view.width)
        yield from (f"      {escape_unprintable(line)}" for line in block)


_SHORT = 60
"""Characters up to which a line is told again sooner than where it stands."""


class _EvidenceLines:
    """The evidence of findings: what has been told in full of one is not told again of the next."""

    def __init__(self, report: LintReport) -> None:
        self._told: dict[tuple[str, Message], str] = {}
        self._undecided = {
            (result.name, reason): format_place(result.target.path, None, result.target.line, None)
            for result in report.targets
            if result.verdict is Verdict.INCONCLUSIVE
            for reason in iter_reasons(result.reason)
        }

    def format_evidence(self, finding: Finding, view: ReportView) -> Iterator[str]:
        """The lines, with the remedy of the rule as the first that helps."""
        message, suspect = self._compose_evidence(finding), finding.suspect
        where = format_place(suspect.path, suspect.cell, suspect.span.line, None)
        # What is said of a target is said of one file's; the rest holds for the run.
        first = self._told.setdefault((suspect.path if "target" in finding.reason.data else "", message), where)
        again = f"the same as at {first}"
        if first != where and (message.notes or message.helps or len(message.head) > _SHORT):
            message = Message(again)
        yield from format_message("evidence", message, view, suspect.remedy)

    def _compose_evidence(self, finding: Finding) -> Message:
        """What is told of a finding; of a target that could not be judged the reason stands with the target."""
        reason = finding.reason
        if reason.code in (ReasonCode.TARGET_INCONCLUSIVE, ReasonCode.TARGET_NOT_RUN):
            place = self._undecided.get((reason.data["target"], reason.data["reason"]))
            if place is not None:
                return Message(f"{reason.data['target']} could not be judged: see {place}")
        return compose_message(reason)


class _ToldReasons:
    """Which reasons of targets the findings that explain them have told already, in their evidence."""

    def __init__(self, report: LintReport) -> None:
        self._explanations = Explanations(report.findings)
        self._told: dict[str, dict[str, set[str]]] = {}
        for finding in report.findings:
            if finding.disposition is Disposition.CONFIRMED:
                for reason in iter_reasons(finding.reason):
                    symbols = self._told.setdefault(say(reason), {}).setdefault(finding.suspect.path, set())
                    symbols.add(finding.suspect.symbol)

    def hold_reason(self, result: TargetResult) -> bool:
        """Whether the reason of a target need not be told again."""
        told = self._told.get(say(result.reason), {})
        found = self._explanations.list_symbols(result) if told else []
        return any(not told.get(path, frozenset()).isdisjoint(symbols) for path, symbols in found)


def _get_target_key(result: TargetResult) -> TargetKey:
    return result.target.path, result.target.line, result.name


def _is_shown(finding: Finding, view: ReportView) -> bool:
    return finding.disposition is not Disposition.CLEARED or view.show_cleared or view.verbose


def _is_target_shown(result: TargetResult, report: LintReport, view: ReportView, alone: UnexplainedTargets) -> bool:
    """Safe targets are not worth a line, nor one whose findings have said all there is to say."""
    if view.verbose or result.verdict is Verdict.INCONCLUSIVE:
        return True
    if not result.verdict.unsafe or is_accepted(report, result):
        return False
    return alone.hold(result) or any(run.blocks for run in result.runs)


def _format_finding(
    finding: Finding, evidence: _EvidenceLines, report: LintReport, view: ReportView, style: TerminalStyle
) -> Iterator[str]:
    suspect, colour = finding.suspect, _COLOURS[finding.disposition.value]
    disposition = style.paint_text(finding.disposition.value, colour, bold=True)
    verdict = f", {finding.verdict.value}" if finding.verdict else ""
    where = style.paint_text(
        format_place(suspect.path, suspect.cell, suspect.span.line, suspect.span.column), bold=True
    )
    rule = escape_unprintable(f"{suspect.rule} {suspect.name}")
    yield f"{where}: {rule}: {disposition}{verdict} ({suspect.severity})"
    yield from wrap_text(suspect.message, "  ", view.width)
    widest = view.width - 2 if view.width else MAX_FRAME_WIDTH
    source = report.sources.get((suspect.path, suspect.cell), "")
    yield from (f"  {row}" for row in frame_source(source, suspect.span, style, colour, widest))
    yield from evidence.format_evidence(finding, view)
    link = find_rule_link(suspect.rule) if view.verbose else None
    if link:
        yield f"  see: {link}"
    if finding.rewrite:
        yield from (f"  {row}" for row in format_rewrite(finding.rewrite, suspect.path, report, view, style))


def _format_target_head(result: TargetResult, style: TerminalStyle) -> str:
    target = result.target
    where = style.paint_text(format_place(target.path, None, target.line, 1), bold=True)
    verdict = style.paint_text(result.verdict.value, _choose_colour(result.verdict), bold=True)
    return f"{where}: target {escape_unprintable(result.name)}: {verdict}"


def _choose_colour(verdict: Verdict) -> str:
    if verdict is Verdict.INCONCLUSIVE:
        return "yellow"
    return "red" if verdict.unsafe else "green"


def _format_target(
    result: TargetResult,
    told: _ToldReasons,
    view: ReportView,
    style: TerminalStyle,
    alone: UnexplainedTargets,
    measured: MeasuredRuns,
) -> Iterator[str]:
    yield _format_target_head(result, style)
    message = alone.explain(result, compose_message(result.reason))
    if not told.hold_reason(result):
        yield from format_message("reason", message, view)
    for run in result.runs:
        if view.verbose or (run.verdict is result.verdict and run.verdict.unsafe):
            name = result.name if run.backend == AS_IT_IS else f"{result.name} with the {run.backend} backend"
            seen = measured.setdefault(tuple(_format_run_errors(run, view, style)), name)
            is_new = view.verbose or not run.blocks or seen == name
            yield from wrap_text(_format_run_line(run, result, None if is_new else seen), "  ", view.width)
            yield from (f"    {row}" for row in (_format_measurements(run, view, style) if is_new else ()))


def _format_run_line(run: Run, result: TargetResult, before: str | None) -> str:
    reason = f" ({compose_message(run.reason).head})" if run.reason and run.reason != result.reason else ""
    verdict = f"{describe_run(run)}: {run.verdict.value}{reason}"
    if before:
        return f"{verdict}; the same errors as {before}"
    return f"{verdict}; relative errors:" if run.gradients or run.blocks else verdict


def _format_measurements(run: Run, view: ReportView, style: TerminalStyle) -> Iterator[str]:
    """What a run found, in numbers and in the target's own words."""
    yield from _format_run_errors(run, view, style)
    if run.maml:
        yield from wrap_text(f"in MAML: {describe_maml(run.maml)}", "", view.width)
    if run.error and run.error not in say(run.reason):
        yield from wrap_text(run.error, "", view.width)
    if view.verbose:
        yield from (line for note in run.notes for line in wrap_text(f"note: {say(note)}", "", view.width))


def _format_run_errors(run: Run, view: ReportView, style: TerminalStyle) -> Iterator[str]:
    if run.gradients:
        yield format_gradients(run, style, view.unicode)
    yield from format_heatmap(run, style, view.unicode)


def _format_errors(report: LintReport, view: ReportView, style: TerminalStyle) -> Iterator[str]:
    notices = [(error, style.paint_text("error", "red", bold=True)) for error in report.errors]
    notices += [(unused, style.paint_text("warning", "yellow", bold=True)) for unused in report.unused_ignores]
    lines = [line for notice, kind in notices for line in _format_notice(notice, kind, view)]
    if lines:
        yield "\n".join(lines)


def _format_notice(notice: LintError, kind: str, view: ReportView) -> Iterator[str]:
    message = compose_message(notice.reason)
    where = format_place(notice.path, notice.cell, notice.line, None)
    yield f"{where}: {kind}: {escape_unprintable(message.head)}"
    yield from list(format_message("", message, view))[1:]


_MAX_CHANGED_LINES = 12


def format_rewrite(
    rewrite: Rewrite, path: str, report: LintReport, view: ReportView, style: TerminalStyle
) -> Iterator[str]:
    """What was rewritten and run; ``path`` is where the finding stands, so that only other files are named."""
    symbol = escape_unprintable(rewrite.symbol)
    yield f"rewrite: with this change {symbol} was run, and is safe; your files are as they were"
    rows = [
        row
        for edit in list_edits(rewrite, report.sources)
        for row in _format_edit_rows(edit, path, report, view, style)
    ]
    yield from (f"  {row}" for row in rows[:_MAX_CHANGED_LINES])
    if len(rows) > _MAX_CHANGED_LINES:
        yield f"  ({format_count(len(rows) - _MAX_CHANGED_LINES, 'more line')}; --output-format html shows all)"


def _format_edit_rows(
    edit: LineEdit, path: str, report: LintReport, view: ReportView, style: TerminalStyle
) -> Iterator[str]:
    old = split_rows(report.sources[edit.path, None])[edit.line - 1 : edit.end_line - 1]
    where = "" if edit.path == path else f"{format_place(edit.path, None, None, None)}:"
    width = len(str(edit.line + max(len(old), len(edit.lines))))
    for sign, colour, lines in (("-", "red", old), ("+", "green", edit.lines)):
        for number, line in enumerate(lines, edit.line):
            head = f"{sign} {where}{number:>{width}} | "
            yield style.paint_text(
                head + fit_row(line, (view.width - 4 if view.width else MAX_FRAME_WIDTH) - len(head)), colour
            ).rstrip()
