"""Tell what is known of an unsafe target that no finding explains: the node that fails, and what is undecided."""

from __future__ import annotations

import os
from collections.abc import Iterator

from theria.wording import Message
from theria_lint.model import Disposition, Finding, TargetResult
from theria_lint.reasons import Ground, Reason
from theria_lint.report.message_parts import extend
from theria_lint.report.sentences import compose_message
from theria_lint.report.summary import FindingIndex, list_unexplained_targets
from theria_lint.result import LintReport

UNEXPLAINED = "no suspect explains it"
_SHOWN = 3


class UnexplainedTargets:
    """The targets of a report that no finding explains, with what is told of each."""

    def __init__(self, report: LintReport) -> None:
        found = list_unexplained_targets(report)
        self._alone = {_get_key(result) for result in found if not result.blames_others}
        self.all = frozenset(map(_get_key, found))
        self._undecided = FindingIndex(
            finding for finding in report.findings if finding.disposition is Disposition.UNCONFIRMED
        )

    def hold(self, result: TargetResult) -> bool:
        """Whether no finding explains a target."""
        return _get_key(result) in self.all

    def explain(self, result: TargetResult, message: Message) -> Message:
        """The message of a target; where nothing explains it, with what is known: elsewhere is not looked in vain."""
        if _get_key(result) not in self._alone:
            return message
        undecided = self._undecided.list_findings(result.target, _SHOWN)
        if not undecided:
            return tell_unexplained(result, message)
        more = self._undecided.count_findings(result.target) - len(undecided)
        named = ", ".join(_name_finding(finding, result) for finding in undecided)
        return tell_unexplained(result, extend(message, f"undecided: {named}" + (f" and {more} more" if more else "")))


def tell_unexplained(result: TargetResult, message: Message) -> Message:
    """The message of a target that nothing explains, with the nodes to which its runs trace it."""
    origins = _list_origins(result)
    heads = (compose_message(origin).head for origin in origins)
    return extend(message, *heads, UNEXPLAINED, helps=tuple(_iter_helps(result, origins)))


def _get_key(result: TargetResult) -> tuple[str, int, str]:
    return result.target.path, result.target.line, result.name


def _list_origins(result: TargetResult) -> list[Reason]:
    """The nodes to which the runs that give the verdict trace it."""
    bad = (run for run in result.runs if run.verdict is result.verdict)
    return list(dict.fromkeys(note for run in bad for note in run.notes if note.code == Ground.NODE_FOUND))[:_SHOWN]


def _name_finding(finding: Finding, result: TargetResult) -> str:
    suspect = finding.suspect
    where = "" if suspect.path == result.target.path else f" of {os.path.basename(suspect.path)}"
    return f"{suspect.rule} on line {suspect.span.line}{where}"


def _iter_helps(result: TargetResult, origins: list[Reason]) -> Iterator[str]:
    """Where to look, as far as that is known."""
    own = os.path.basename(result.target.path)
    others = {origin.data["file"] for origin in origins if origin.data["file"]} - {own}
    if others:
        yield f"Look at {' and '.join(sorted(others))}"
