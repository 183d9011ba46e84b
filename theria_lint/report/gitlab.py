"""``--output-format gitlab``: a Code Quality report."""

from __future__ import annotations

from typing import Any

from theria_lint.report import ReportView
from theria_lint.report.items import ReportItem, list_items
from theria_lint.report.style import as_json
from theria_lint.result import LintReport

_SEVERITIES = {"error": "major", "warning": "minor", "note": "info"}


def render(report: LintReport, view: ReportView) -> str:
    """One JSON array of issues."""
    return as_json([_make_issue(item) for item in list_items(report, view)]) + "\n"


def _make_issue(item: ReportItem) -> dict[str, Any]:
    where = f"cell {item.cell}: " if item.cell is not None else ""
    return {
        "description": where + "; ".join((item.text, *item.notes)),
        "check_name": item.rule,
        "fingerprint": item.fingerprint,
        "severity": _SEVERITIES[item.level],
        "location": {"path": item.path, "lines": {"begin": item.line, "end": item.end_line}},
    }
