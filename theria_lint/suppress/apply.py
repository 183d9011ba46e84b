"""What the user has silenced: rules that are not selected, ignore comments, the baseline.

It happens after the dynamic stage, because a silenced suspect still takes part in the counterfactuals.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from theria_lint.config import Settings
from theria_lint.model import Finding, TargetResult
from theria_lint.report.summary import explains
from theria_lint.result import LintError, Report
from theria_lint.sources.gitignore import Patterns
from theria_lint.static.scan_files import Scanned, load_rules
from theria_lint.suppress.baseline import Baseline, read_baseline
from theria_lint.suppress.ignore_comments import complaints, find_ignores, ignored


def without_silenced(report: Report, scanned: Sequence[Scanned], settings: Settings, files: Sequence[str]) -> Report:
    """``report`` without silenced findings, and with what is to be said about the means of silencing."""
    chosen = [finding for finding in report.findings if _selected(finding, settings)]
    commented, unused = _by_comments(report, scanned, settings)
    loud = [finding for finding in chosen if finding not in commented]
    baseline = read_baseline(settings.baseline) if settings.baseline else None
    shown = [finding for finding in loud if baseline is None or not baseline.take(finding, report.sources)]
    return replace(
        report,
        findings=tuple(shown),
        ignored=len(chosen) - len(loud),
        baselined=len(loud) - len(shown),
        unused_ignores=unused,
        accepted=_accepted(report, shown, baseline),
        notes=(*report.notes, *_stale(baseline, settings, files)),
    )


def _selected(finding: Finding, settings: Settings) -> bool:
    rule = finding.suspect.rule
    ignore = [*settings.ignore, *_ignored_in(finding.suspect.path, settings)]
    return _longest(rule, settings.select or ("",)) > _longest(rule, ignore)


def _longest(rule: str, prefixes: Iterable[str]) -> int:
    """How much of ``rule`` the prefixes spell out, -1 if none fits: the more exact of select and ignore wins."""
    return max((len(prefix) for prefix in prefixes if rule.startswith(prefix)), default=-1)


def _ignored_in(path: str, settings: Settings) -> list[str]:
    relative = os.path.relpath(path, settings.root).replace(os.sep, "/")
    tables = settings.per_file_ignores
    return [code for pattern, codes in tables if Patterns([pattern]).match_within(relative) for code in codes]


def _by_comments(
    report: Report, scanned: Sequence[Scanned], settings: Settings
) -> tuple[set[Finding], tuple[LintError, ...]]:
    """Findings under an ignore comment, and comments that cover nothing."""
    found = [
        (item.path, cell, ignores)
        for item in scanned
        for cell, text in item.texts.items()
        if "theria:" in text and (ignores := find_ignores(text))
    ]
    if not found:
        return set(), ()
    rules = [rule.id for rule in load_rules(settings.rule_paths, settings.detach_names).rules]
    silenced: set[Finding] = set()
    unused: list[LintError] = []
    for path, cell, ignores in found:
        here = [finding for finding in report.findings if _is_in(finding, path, cell)]
        silenced |= ignored(here, ignores)
        unused += [LintError(path, line, text, cell) for line, text in complaints(here, ignores, rules)]
    return silenced, tuple(unused)


def _is_in(finding: Finding, path: str, cell: int | None) -> bool:
    return finding.suspect.path == path and finding.suspect.cell == cell


def _accepted(report: Report, shown: Sequence[Finding], baseline: Baseline | None) -> frozenset[tuple[str, str]]:
    """Unsafe targets that only silenced findings explain, or that the baseline names."""
    accepted, loud = set(), set(shown)
    for result in report.targets:
        blamed = [finding for finding in report.findings if explains(finding, result)]
        silenced = bool(blamed) and not any(finding in loud for finding in blamed)
        if result.verdict.unsafe and (silenced or (baseline is not None and baseline.accepts(result) and not blamed)):
            accepted.add((result.target.path, result.target.symbol))
    return frozenset(accepted)


def _stale(baseline: Baseline | None, settings: Settings, files: Sequence[str]) -> list[str]:
    count = baseline.stale(files) if baseline is not None else 0
    if not count:
        return []
    shown = os.path.relpath(settings.baseline or "").replace(os.sep, "/")
    what = "1 finding that is" if count == 1 else f"{count} findings that are"
    return [f"The baseline {shown} accepts {what} no longer there; --write-baseline brings it up to date."]


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
