"""Turn a report into diagnostics of the protocol, and into the text of a hover."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lsprotocol import types

from theria.wording import Message
from theria_lint.lsp.client import PositionEncoding, make_range, make_row_span
from theria_lint.model import Disposition, Finding, Run, Span, TargetResult
from theria_lint.reasons import Reason
from theria_lint.report.grid import format_heatmap
from theria_lint.report.items import ERROR, UNSAFE, UNUSED, get_level
from theria_lint.report.measurement_messages import describe_run
from theria_lint.report.sentences import compose_message
from theria_lint.report.style import TerminalStyle
from theria_lint.report.summary import Explanations, list_unsafe_targets
from theria_lint.report.unexplained import tell_unexplained
from theria_lint.result import LintError, LintReport
from theria_lint.rules.loader import Rule, RuleSet, find_rule_link

SOURCE = "theria-lint"
# Of the findings that an editor lists beside an unsafe target.
_MOST_CAUSES = 20
_SEVERITIES = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "note": types.DiagnosticSeverity.Information,
}


@dataclass(frozen=True)
class DocumentMark:
    """A diagnostic, and what it stands for: a finding, an unsafe target, or neither (an error, an unused comment)."""

    diagnostic: types.Diagnostic
    finding: Finding | None = None
    target: TargetResult | None = None


class DiagnosticBuilder:
    """Marks the document ``uri``, whose text has these rows."""

    def __init__(self, uri: str, rows: Sequence[str], encoding: PositionEncoding) -> None:
        self._uri = uri
        self._rows = rows
        self._encoding = encoding

    def build_marks(self, report: LintReport, show_cleared: bool) -> Iterator[DocumentMark]:
        """Findings (cleared ones if wanted), unsafe targets at their definitions, errors, unused ignore comments."""
        for finding in report.findings:
            if finding.disposition is not Disposition.CLEARED or show_cleared:
                yield self._mark_finding(finding)
        explanations = Explanations(report.findings)
        for result in list_unsafe_targets(report):
            yield self._mark_target(result, explanations.list_findings(result, _MOST_CAUSES))
        yield from map(self._mark_error, report.errors)
        yield from map(self._mark_unused_comment, report.unused_ignores)

    def _to_protocol_range(self, span: Span) -> types.Range:
        return make_range(self._rows, span, self._encoding)

    def _mark_finding(self, finding: Finding) -> DocumentMark:
        suspect = finding.suspect
        hint = finding.disposition is Disposition.CLEARED
        severity = types.DiagnosticSeverity.Hint if hint else _SEVERITIES[get_level(finding)]
        told = compose_message(finding.reason)
        text = "\n".join((suspect.message, f"{format_state(finding)}: {told.head}", *_list_lines(told)))
        return DocumentMark(
            _make_diagnostic(self._to_protocol_range(suspect.span), severity, suspect.rule, text), finding=finding
        )

    def _mark_target(self, result: TargetResult, causes: Sequence[Finding]) -> DocumentMark:
        target = result.target
        told = compose_message(result.reason)
        if not causes and not result.blames_others:
            told = tell_unexplained(result, told)
        text = "\n".join((f"{result.name} is {result.verdict.value}: {told.head}", *_list_lines(told)))
        where = self._to_protocol_range(self._locate_symbol(target.line, target.symbol))
        diagnostic = _make_diagnostic(where, types.DiagnosticSeverity.Error, UNSAFE, text)
        diagnostic.related_information = [self._make_cause(finding) for finding in causes]
        return DocumentMark(diagnostic, target=result)

    def _locate_symbol(self, line: int, symbol: str) -> Span:
        """Where a definition says its name."""
        return self._locate_pattern(line, rf"\b{re.escape(symbol.rpartition('.')[2])}\b")

    def _locate_pattern(self, line: int, pattern: str) -> Span:
        """Where a line has what a pattern describes; the whole line if it has not."""
        found = re.search(pattern, self._rows[line - 1]) if line <= len(self._rows) else None
        return Span(line, found.start() + 1, line, found.end() + 1) if found else make_row_span(self._rows, line)

    def _make_cause(self, finding: Finding) -> types.DiagnosticRelatedInformation:
        place = types.Location(self._uri, self._to_protocol_range(finding.suspect.span))
        return types.DiagnosticRelatedInformation(place, f"{finding.suspect.rule} {finding.suspect.message}")

    def _mark_error(self, error: LintError) -> DocumentMark:
        where = self._to_protocol_range(make_row_span(self._rows, error.line or 1))
        return DocumentMark(_make_diagnostic(where, types.DiagnosticSeverity.Error, ERROR, _join_message(error.reason)))

    def _mark_unused_comment(self, comment: LintError) -> DocumentMark:
        where = self._to_protocol_range(self._locate_pattern(comment.line or 1, r"#\s*theria:.*"))
        diagnostic = _make_diagnostic(
            where, types.DiagnosticSeverity.Information, UNUSED, _join_message(comment.reason)
        )
        diagnostic.tags = [types.DiagnosticTag.Unnecessary]
        return DocumentMark(diagnostic)


def _join_message(reason: Reason) -> str:
    told = compose_message(reason)
    return "\n".join((told.head, *_list_lines(told)))


def _list_lines(message: Message) -> list[str]:
    """What stands below the head of a message."""
    return [*(f"note: {note}" for note in message.notes), *(f"help: {help_}" for help_ in message.helps)]


def format_state(finding: Finding) -> str:
    """The disposition of a finding, and the verdict if there is one."""
    return ", ".join(filter(None, (finding.disposition.value, finding.verdict)))


def _make_diagnostic(where: types.Range, severity: types.DiagnosticSeverity, code: str, text: str) -> types.Diagnostic:
    link = find_rule_link(code)
    described = types.CodeDescription(link) if link else None
    return types.Diagnostic(where, text, severity=severity, code=code, code_description=described, source=SOURCE)


_MARKDOWN_CHARACTERS = re.compile(r"([\\`*_{}\[\]()<>#+\-!|~&])")


def format_hover(marks: Sequence[DocumentMark], rules: Callable[[], RuleSet]) -> str:
    """The text for all marks at a place; "" for none that has more to say than its message."""
    parts = [_describe_finding(mark.finding) for mark in marks if mark.finding]
    parts += [_describe_target(mark.target) for mark in marks if mark.target]
    wanted = {mark.finding.suspect.rule for mark in marks if mark.finding}
    parts += [_describe_rule(rule) for rule in rules().rules if rule.id in wanted] if wanted else []
    return "\n\n---\n\n".join(parts)


def _describe_finding(finding: Finding) -> str:
    suspect = finding.suspect
    head = f"**{suspect.rule} {suspect.name}: {_escape_markdown(format_state(finding))}**"
    told = compose_message(finding.reason)
    evidence = f"Evidence: {_escape_markdown(told.head)}"
    return "\n\n".join((head, suspect.message, evidence, *_describe_below(told), f"Help: {suspect.remedy.rstrip('.')}"))


def _describe_below(message: Message) -> list[str]:
    """The notes and what helps, as Markdown."""
    notes = [f"Note: {_escape_markdown(note)}" for note in message.notes]
    return [*notes, *map(_describe_help, message.helps)]


def _describe_help(text: str) -> str:
    first, _, block = text.partition("\n")
    return f"Help: {_escape_markdown(first)}" + (f"\n\n```text\n{block}\n```" if block else "")


def _describe_rule(rule: Rule) -> str:
    """What the rule says of itself, short enough to be read in passing."""
    references = [f"<{reference}>" for reference in rule.references]
    return "\n\n".join((f"**{rule.id} {rule.name}.** {rule.what}", rule.why, *references))


def _describe_target(result: TargetResult) -> str:
    head = f"**{_escape_markdown(result.name)}: {_escape_markdown(result.verdict.value)}**"
    told = compose_message(result.reason)
    runs = [run for run in result.runs if run.verdict is result.verdict]
    measured = [part for run in runs for part in _describe_run(run)]
    return "\n\n".join((head, _escape_markdown(told.head), *_describe_below(told), *measured))


def _describe_run(run: Run) -> Iterator[str]:
    """Where a run took place, and its relative errors block by block."""
    yield f"{_escape_markdown(describe_run(run).capitalize())}."
    rows = format_heatmap(run, TerminalStyle(False), unicode=True)
    if rows:
        yield "\n".join(("```text", *rows, "```"))


def _escape_markdown(text: str) -> str:
    """Text that the code under test may have had a hand in: no markup in it counts."""
    return _MARKDOWN_CHARACTERS.sub(r"\\\1", " ".join(text.split()))
