"""``--output-format sarif``: SARIF 2.1.0, for code scanning services."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from theria_lint import __version__
from theria_lint.model import Report
from theria_lint.report import View
from theria_lint.report.items import ERROR, Item, items

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(report: Report, view: View) -> str:
    """One log with one run; what could not be checked is a notification, not a result."""
    everything = items(report, view)
    results = [item for item in everything if item.rule != ERROR]
    rules = _rules(results)
    run = {
        "tool": {"driver": {"name": "theria-lint", "version": __version__, "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation([item for item in everything if item.rule == ERROR])],
        "results": [_result(item, [rule["id"] for rule in rules]) for item in results],
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _rules(results: Iterable[Item]) -> list[dict[str, Any]]:
    rules = {item.rule: item for item in results}
    return [
        {
            "id": item.rule,
            "name": "".join(word.capitalize() for word in item.name.split("-")),
            "shortDescription": {"text": item.name},
            **({"help": {"text": item.remedy}} if item.remedy else {}),
        }
        for _, item in sorted(rules.items())
    ]


def _result(item: Item, rules: list[str]) -> dict[str, Any]:
    return {
        "ruleId": item.rule,
        "ruleIndex": rules.index(item.rule),
        "level": item.level,
        "message": {"text": item.text},
        "locations": [_location(item)],
        "partialFingerprints": {"theriaLint/v1": item.fingerprint},
    }


def _location(item: Item) -> dict[str, Any]:
    region = {"startLine": item.line, "startColumn": item.column}
    if (item.end_line, item.end_column) != (item.line, item.column):
        region |= {"endLine": item.end_line, "endColumn": item.end_column}
    artifact = {"uri": quote(item.path.encode("utf-8", "surrogatepass"))}
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": artifact, "region": region}}
    if item.cell is not None:
        location["logicalLocations"] = [{"name": f"cell {item.cell}"}]
    return location


def _invocation(errors: Iterable[Item]) -> dict[str, Any]:
    notifications = [
        {"level": "error", "message": {"text": f"{item.path}: {item.text}"}, "locations": [_location(item)]}
        for item in errors
    ]
    return {"executionSuccessful": True, "toolExecutionNotifications": notifications}
