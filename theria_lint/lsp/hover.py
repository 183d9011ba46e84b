"""What the editor shows over a marked place, as Markdown: the evidence, and what its rule is about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from theria_lint.lsp.marks import Mark, state
from theria_lint.model import Finding, Run, TargetResult
from theria_lint.report.heatmap import heatmap
from theria_lint.report.style import Style
from theria_lint.static.rules import Rule, RuleSet

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
