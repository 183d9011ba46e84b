"""``--output-format gitlab``: a Code Quality report."""

from __future__ import annotations

from typing import Any

from theria_lint.report import View
from theria_lint.report.escaping import as_json
from theria_lint.report.items import Item, items
from theria_lint.result import Report

_SEVERITIES = {"error": "major", "warning": "minor", "note": "info"}


def render(report: Report, view: View) -> str:
    """One JSON array of issues."""
    return as_json([_issue(item) for item in items(report, view)]) + "\n"


def _issue(item: Item) -> dict[str, Any]:
    where = f"cell {item.cell}: " if item.cell is not None else ""
    return {
        "description": where + item.text,
        "check_name": item.rule,
        "fingerprint": item.fingerprint,
        "severity": _SEVERITIES[item.level],
        "location": {"path": item.path, "lines": {"begin": item.line, "end": item.end_line}},
    }
