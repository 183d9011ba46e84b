"""Remove silenced findings from a report: rules that are not selected, ignore comments, the baseline.

Runs after the dynamic stage, because a silenced suspect still takes part in the ablations.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from theria_lint.config import Settings, find_rule_prefix
from theria_lint.model import Disposition, Finding, TargetResult
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.summary import Explanations
from theria_lint.result import LintError, LintReport, ScannedFile
from theria_lint.sources.gitignore import GitignorePatterns
from theria_lint.static.scan_files import load_configured_rules
from theria_lint.suppress.baseline import Baseline, read_baseline
from theria_lint.suppress.ignore_comments import find_ignores, iter_complaints, resolve_ignores, select_ignored


def suppress_findings(
    report: LintReport, scanned: Sequence[ScannedFile], settings: Settings, files: Sequence[str]
) -> LintReport:
    """``report`` without silenced findings, and with what is to be said about the means of silencing."""
    settings = _resolve_codes(settings)
    ignored = _list_ignored_codes({finding.suspect.path for finding in report.findings}, settings)
    chosen = [finding for finding in report.findings if _is_selected(finding, settings, ignored)]
    commented, unused = _apply_comments(report, scanned, settings)
    loud = [finding for finding in chosen if finding not in commented]
    baseline = read_baseline(settings.baseline) if settings.baseline else None
    shown = [
        finding for finding in loud if baseline is None or not baseline.consume_acceptance(finding, report.sources)
    ]
    kept = frozenset(shown)
    return report._replace(
        findings=tuple(shown),
        silenced=tuple(f for f in report.findings if f not in kept and f.disposition is not Disposition.CLEARED),
        ignored=len(chosen) - len(loud),
        baselined=len(loud) - len(shown),
        unused_ignores=unused,
        accepted=_find_accepted_targets(report, shown, baseline),
        notes=(
            *report.notes,
            *_report_unselected(report, chosen),
            *_report_stale_baseline(baseline, settings, files),
        ),
    )


def _resolve_codes(settings: Settings) -> Settings:
    """The settings with ids in the place of the names of rules, and of ids in another case."""
    if not (settings.select or settings.ignore or settings.per_file_ignores):
        return settings
    rules = load_configured_rules(settings.rule_paths, settings.detach_names).rules
    known = {rule.id: rule.name for rule in rules}

    def resolve(codes: Iterable[str]) -> tuple[str, ...]:
        return tuple(find_rule_prefix(code, known) or code for code in codes)

    by_file = tuple((pattern, resolve(codes)) for pattern, codes in settings.per_file_ignores)
    return settings._replace(select=resolve(settings.select), ignore=resolve(settings.ignore), per_file_ignores=by_file)


def _is_selected(finding: Finding, settings: Settings, ignored: Mapping[str, list[str]]) -> bool:
    rule = finding.suspect.rule
    ignore = [*settings.ignore, *ignored[finding.suspect.path]]
    return _measure_longest_prefix(rule, settings.select or ("",)) > _measure_longest_prefix(rule, ignore)


def _measure_longest_prefix(rule: str, prefixes: Iterable[str]) -> int:
    """How much of ``rule`` the prefixes spell out, -1 if none fits: the more exact of select and ignore wins."""
    return max((len(prefix) for prefix in prefixes if rule.startswith(prefix)), default=-1)


def _list_ignored_codes(paths: Iterable[str], settings: Settings) -> dict[str, list[str]]:
    """The codes to leave out in each file; every pattern is compiled once, for it takes longer than to match it."""
    tables = [(GitignorePatterns([pattern]), codes) for pattern, codes in settings.per_file_ignores]
    found = {}
    for path in paths:
        relative = os.path.relpath(path, settings.root).replace(os.sep, "/")
        found[path] = [code for patterns, codes in tables if patterns.match_within(relative) for code in codes]
    return found


def _apply_comments(
    report: LintReport, scanned: Sequence[ScannedFile], settings: Settings
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
    known = {r.id: r.name for r in load_configured_rules(settings.rule_paths, settings.detach_names).rules}
    by_source: dict[tuple[str, int | None], list[Finding]] = {}
    by_file: dict[str, list[Finding]] = {}
    for finding in report.findings:
        by_source.setdefault((finding.suspect.path, finding.suspect.cell), []).append(finding)
        by_file.setdefault(finding.suspect.path, []).append(finding)
    silenced: set[Finding] = set()
    unused: list[LintError] = []
    for path, cell, ignores in found:
        resolved = resolve_ignores(ignores, known)
        for whole_file, findings in ((True, by_file.get(path, [])), (False, by_source.get((path, cell), []))):
            part = [ignore for ignore in resolved if (ignore.scope == "file") is whole_file]
            silenced |= select_ignored(findings, part)
            unused += [LintError(path, line, reason, cell) for line, reason in iter_complaints(findings, part, known)]
    return silenced, tuple(unused)


def _find_accepted_targets(
    report: LintReport, shown: Sequence[Finding], baseline: Baseline | None
) -> frozenset[tuple[str, str]]:
    """Unsafe targets that only silenced findings explain, or that the baseline names."""
    accepted, found, loud = set(), Explanations(report.findings), Explanations(shown)
    for result in report.targets:
        blamed = found.explain(result)
        silenced = blamed and not loud.explain(result)
        if result.verdict.unsafe and (
            silenced or (baseline is not None and baseline.accepts_target(result) and not blamed)
        ):
            accepted.add((result.target.path, result.name))
    return frozenset(accepted)


def _report_unselected(report: LintReport, chosen: Sequence[Finding]) -> list[Reason]:
    """That targets are unsafe which only findings explain that were not asked for."""
    if len(chosen) == len(report.findings):
        return []
    found, left = Explanations(report.findings), Explanations(chosen)
    hidden = [result.name for result in report.targets if found.explain(result) and not left.explain(result)]
    return [Reason(ReasonCode.UNSAFE_UNSELECTED, {"targets": hidden})] if hidden else []


def _report_stale_baseline(baseline: Baseline | None, settings: Settings, files: Sequence[str]) -> list[Reason]:
    count = baseline.count_stale(files) if baseline is not None else 0
    if not count:
        return []
    shown = os.path.relpath(settings.baseline or "").replace(os.sep, "/")
    return [Reason(ReasonCode.BASELINE_STALE, {"file": shown, "count": count})]


def restrict_to_linted(report: LintReport, files: Collection[str]) -> LintReport:
    """``report`` as far as it is about ``files``; of the rest, a target's reason says what is to blame for it."""
    linted = frozenset(files)
    others = [finding for finding in report.findings if finding.suspect.path not in linted]
    if not others and all(path in linted for path, _ in report.sources):
        return report
    explanations = Explanations(others)
    kept = tuple(finding for finding in report.findings if finding.suspect.path in linted)
    rewritten = {path for finding in kept if finding.rewrite for path, _ in finding.rewrite.files}
    shown = [place for place in report.sources if place[0] in linted]
    shown += [place for place in report.sources if place[0] in rewritten - linted]
    return report._replace(
        findings=kept,
        targets=tuple(_blame_other_files(result, explanations) for result in report.targets),
        unused_ignores=tuple(error for error in report.unused_ignores if error.path in linted),
        sources={place: report.sources[place] for place in shown},
    )


# Of those that a target's reason names.
_MOST_NAMED = 20


def _blame_other_files(result: TargetResult, others: Explanations) -> TargetResult:
    suspects = [finding.suspect for finding in others.list_findings(result, _MOST_NAMED)]
    if not suspects:
        return result
    places = [{"rule": s.rule, "line": s.span.line, "path": s.path} for s in suspects]
    told = Reason(ReasonCode.BLAMED_ELSEWHERE, {"reason": result.reason, "suspects": places})
    return replace(result, reason=told, blames_others=True)
