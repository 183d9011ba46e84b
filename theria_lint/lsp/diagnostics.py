"""What is to be marked in a document, and with which words: a report as the protocol's diagnostics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lsprotocol import types

from theria_lint.lsp.client import Encoding, range_of, row_span
from theria_lint.model import Disposition, Finding, Run, Span, TargetResult
from theria_lint.report.grid import heatmap
from theria_lint.report.items import ERROR, UNSAFE, UNUSED, level
from theria_lint.report.style import Style
from theria_lint.report.summary import explains, unsafe_targets
from theria_lint.result import LintError, Report
from theria_lint.rules.loader import Rule, RuleSet

SOURCE = "theria-lint"
UNEXPLAINED = "No suspect explains it: look at what it calls in other files and libraries."
_SEVERITIES = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "note": types.DiagnosticSeverity.Information,
}


@dataclass(frozen=True)
class Mark:
    """A diagnostic, and what it stands for: a finding, an unsafe target, or neither (an error, an unused comment)."""

    diagnostic: types.Diagnostic
    finding: Finding | None = None
    target: TargetResult | None = None


class Marker:
    """Marks the document ``uri``, whose text has these rows."""

    def __init__(self, uri: str, rows: Sequence[str], encoding: Encoding) -> None:
        self._uri = uri
        self._rows = rows
        self._encoding = encoding

    def marks(self, report: Report, show_cleared: bool) -> Iterator[Mark]:
        """Findings (cleared ones if wanted), unsafe targets at their definitions, errors, unused ignore comments."""
        for finding in report.findings:
            if finding.disposition is not Disposition.CLEARED or show_cleared:
                yield self._finding(finding)
        for result in unsafe_targets(report):
            yield self._target(result, [finding for finding in report.findings if explains(finding, result)])
        yield from map(self._error, report.errors)
        yield from map(self._unused, report.unused_ignores)

    def _range(self, span: Span) -> types.Range:
        return range_of(self._rows, span, self._encoding)

    def _finding(self, finding: Finding) -> Mark:
        suspect = finding.suspect
        hint = finding.disposition is Disposition.CLEARED
        severity = types.DiagnosticSeverity.Hint if hint else _SEVERITIES[level(finding)]
        text = f"{suspect.message}\n{state(finding)}: {finding.reason}"
        return Mark(_diagnostic(self._range(suspect.span), severity, suspect.rule, text), finding=finding)

    def _target(self, result: TargetResult, causes: Sequence[Finding]) -> Mark:
        target = result.target
        text = f"{target.symbol} is {result.verdict.value}: {result.reason}"
        if not causes and not result.blames_others:
            text += f"\n{UNEXPLAINED}"
        where = self._range(self._name(target.line, target.symbol))
        diagnostic = _diagnostic(where, types.DiagnosticSeverity.Error, UNSAFE, text)
        diagnostic.related_information = [self._cause(finding) for finding in causes]
        return Mark(diagnostic, target=result)

    def _name(self, line: int, symbol: str) -> Span:
        """Where a definition says its name."""
        return self._found(line, rf"\b{re.escape(symbol.rpartition('.')[2])}\b")

    def _found(self, line: int, pattern: str) -> Span:
        """Where a line has what a pattern describes; the whole line if it has not."""
        found = re.search(pattern, self._rows[line - 1]) if line <= len(self._rows) else None
        return Span(line, found.start() + 1, line, found.end() + 1) if found else row_span(self._rows, line)

    def _cause(self, finding: Finding) -> types.DiagnosticRelatedInformation:
        place = types.Location(self._uri, self._range(finding.suspect.span))
        return types.DiagnosticRelatedInformation(place, f"{finding.suspect.rule} {finding.suspect.message}")

    def _error(self, error: LintError) -> Mark:
        where = self._range(row_span(self._rows, error.line or 1))
        return Mark(_diagnostic(where, types.DiagnosticSeverity.Error, ERROR, error.message))

    def _unused(self, comment: LintError) -> Mark:
        where = self._range(self._found(comment.line or 1, r"#\s*theria:.*"))
        diagnostic = _diagnostic(where, types.DiagnosticSeverity.Information, UNUSED, comment.message)
        diagnostic.tags = [types.DiagnosticTag.Unnecessary]
        return Mark(diagnostic)


def state(finding: Finding) -> str:
    """The disposition of a finding, and the verdict if there is one."""
    return ", ".join(filter(None, (finding.disposition.value, finding.verdict)))


def _diagnostic(where: types.Range, severity: types.DiagnosticSeverity, code: str, text: str) -> types.Diagnostic:
    return types.Diagnostic(where, text, severity=severity, code=code, source=SOURCE)


_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-!|~&])")


def hover(marks: Sequence[Mark], rules: Callable[[], RuleSet]) -> str:
    """The text for all marks at a place; "" for none that has more to say than its message."""
    parts = [_finding(mark.finding) for mark in marks if mark.finding]
    parts += [_target(mark.target) for mark in marks if mark.target]
    wanted = {mark.finding.suspect.rule for mark in marks if mark.finding}
    parts += [_explanation(rule) for rule in rules().rules if rule.id in wanted] if wanted else []
    return "\n\n---\n\n".join(parts)


def _finding(finding: Finding) -> str:
    suspect = finding.suspect
    head = f"**{suspect.rule} {suspect.name}: {_plain(state(finding))}**"
    evidence, remedy = f"Evidence: {_plain(finding.reason)}", f"Remedy: {suspect.remedy}"
    return "\n\n".join((head, suspect.message, evidence, remedy))


def _explanation(rule: Rule) -> str:
    """What the rule says of itself, short enough to be read in passing."""
    references = [f"<{reference}>" for reference in rule.references]
    return "\n\n".join((f"**{rule.id} {rule.name}.** {rule.what}", rule.why, *references))


def _target(result: TargetResult) -> str:
    head = f"**{_plain(result.target.symbol)}: {_plain(result.verdict.value)}**"
    runs = [run for run in result.runs if run.verdict is result.verdict]
    return "\n\n".join((head, _plain(result.reason), *(part for run in runs for part in _run(run))))


def _run(run: Run) -> Iterator[str]:
    """Where a run took place, and its relative errors block by block."""
    oracle = f", against {run.oracle}" if run.oracle else ""
    yield f"Run on {run.backend}, {run.device}, {run.dtype}{oracle}."
    rows = heatmap(run, Style(False), unicode=True)
    if rows:
        yield "\n".join(("```text", *rows, "```"))


def _plain(text: str) -> str:
    """Text that the code under test may have had a hand in: no markup in it counts."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
