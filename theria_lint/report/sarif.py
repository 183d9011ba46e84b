"""``--output-format sarif``: SARIF 2.1.0, for code scanning services."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from theria_lint import __version__
from theria_lint.model import Finding, Rewrite
from theria_lint.report import ReportView
from theria_lint.report.items import ERROR, UNSAFE, UNUSED, ReportItem, list_items
from theria_lint.report.patch import LineEdit, list_edits
from theria_lint.report.sentences import say_all
from theria_lint.report.style import as_json, split_rows
from theria_lint.result import LintReport
from theria_lint.rules.loader import load_rules
from theria_lint.rules.pages import explain_rule

if TYPE_CHECKING:
    from theria_lint.rules.loader import Rule

ReportSources = Mapping[tuple[str, int | None], str]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
# What is reported beside the findings of rules, and has no page of its own.
_OTHERS = {
    UNSAFE: "A kernel that is not safe to differentiate twice, and no suspect in its file explains it",
    UNUSED: "An ignore comment that silences nothing",
}


def render(report: LintReport, view: ReportView) -> str:
    """One log with one run; what could not be checked is a notification, not a result."""
    everything = list_items(report, view)
    results = [item for item in everything if item.rule != ERROR]
    rules = _make_rule_descriptors(results)
    run = {
        "tool": {"driver": {"name": "theria-lint", "version": __version__, "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "invocations": [_make_invocation([item for item in everything if item.rule == ERROR], report)],
        "results": [_make_result(item, [rule["id"] for rule in rules], report.sources) for item in results],
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return as_json(log) + "\n"


def _make_rule_descriptors(results: Iterable[ReportItem]) -> list[dict[str, Any]]:
    """The rules that have results; those that a user added are described by what their findings say."""
    shipped = {rule.id: rule for rule in load_rules().rules}
    reported = {item.rule: item for item in results}
    return [_make_rule_descriptor(item, shipped.get(item.rule)) for _, item in sorted(reported.items())]


def _make_rule_descriptor(item: ReportItem, rule: Rule | None) -> dict[str, Any]:
    described = {
        "id": item.rule,
        "name": "".join(word.capitalize() for word in item.name.split("-")),
        "shortDescription": {"text": _OTHERS.get(item.rule, item.name)},
        "defaultConfiguration": {"level": item.finding.suspect.severity if item.finding else item.level},
    }
    if rule is not None:
        described["fullDescription"] = {"text": " ".join(rule.what.split())}
        described["help"] = {"text": rule.remedy, "markdown": explain_rule(rule)}
        if rule.references:
            described["helpUri"] = rule.references[0]
    elif item.helps:
        described["help"] = {"text": item.helps[0]}
    return described


def _list_own_helps(item: ReportItem) -> list[str]:
    """What helps against this result; what helps against every result of its rule stands with the rule."""
    return [f"help: {help_}" for help_ in (item.helps[1:] if item.finding else item.helps)]


def _make_result(item: ReportItem, rules: list[str], sources: ReportSources) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": item.rule,
        "ruleIndex": rules.index(item.rule),
        "level": item.level,
        "message": {"text": "\n".join((item.text, *(f"note: {note}" for note in item.notes), *_list_own_helps(item)))},
        "locations": [_make_location(item)],
        "partialFingerprints": {"theriaLint/v1": item.fingerprint},
    }
    if item.finding is not None:
        result["properties"] = _make_properties(item.finding)
        if item.finding.rewrite is not None:
            result["fixes"] = [_make_fix(item.finding.rewrite, sources)]
    return result


def _make_properties(finding: Finding) -> dict[str, str]:
    verdict = {"verdict": finding.verdict.value} if finding.verdict else {}
    return {"disposition": finding.disposition.value, **verdict}


def _make_fix(rewrite: Rewrite, sources: ReportSources) -> dict[str, Any]:
    changes: dict[str, list[dict[str, Any]]] = {}
    for edit in list_edits(rewrite, sources):
        changes.setdefault(edit.path, []).append(_make_replacement(edit, sources[edit.path, None]))
    return {
        "description": {"text": f"{rewrite.symbol} was run with this change, and is safe"},
        "artifactChanges": [
            {"artifactLocation": {"uri": make_uri(path)}, "replacements": replacements}
            for path, replacements in changes.items()
        ],
    }


def _make_replacement(edit: LineEdit, source: str) -> dict[str, Any]:
    """Whole lines, up to the start of the next one; after a last line without an end there is none."""
    rows = split_rows(source)
    region = {"startLine": edit.line, "startColumn": 1, "endLine": edit.end_line, "endColumn": 1}
    if edit.end_line > len(rows):
        region |= {"endLine": len(rows), "endColumn": len(rows[-1]) + 1}
    return {"deletedRegion": region, "insertedContent": {"text": "".join(edit.lines)}}


def _make_location(item: ReportItem) -> dict[str, Any]:
    region = {"startLine": item.line, "startColumn": item.column}
    if (item.end_line, item.end_column) != (item.line, item.column):
        region |= {"endLine": item.end_line, "endColumn": item.end_column}
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": make_uri(item.path)}, "region": region}
    }
    if item.cell is not None:
        location["logicalLocations"] = [{"name": f"cell {item.cell}"}]
    return location


def make_uri(path: str) -> str:
    """A path as a URI: a relative one counts from where the tool ran."""
    if os.path.isabs(path):
        return Path(path).as_uri()
    return quote(path.encode("utf-8", "surrogatepass"))


def _make_invocation(errors: Iterable[ReportItem], report: LintReport) -> dict[str, Any]:
    """A file that cannot be checked is no failure of the run; that the user ended it is one."""
    notifications = [
        {"level": "error", "message": {"text": f"{item.path}: {item.text}"}, "locations": [_make_location(item)]}
        for item in errors
    ]
    notifications += [{"level": "note", "message": {"text": note}} for note in say_all(report.notes)]
    return {"executionSuccessful": not report.interrupted, "toolExecutionNotifications": notifications}
