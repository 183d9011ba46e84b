"""``--output-format github``: workflow commands that GitHub shows as annotations."""

from __future__ import annotations

from theria_lint.report import ReportView
from theria_lint.report.items import ReportItem, list_items
from theria_lint.report.style import COMMAND, ESCAPES
from theria_lint.result import LintReport

# Line ends have an escape of GitHub's own.
_VISIBLE = {code: escaped for code, escaped in ESCAPES.items() if chr(code) not in "\t\r\n"}
_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}


def render(report: LintReport, view: ReportView) -> str:
    """One command a line."""
    return "".join(_format_command(item) + "\n" for item in list_items(report, view))


def _format_command(item: ReportItem) -> str:
    properties = {"file": item.path, "line": item.line, "col": item.column, "endLine": item.end_line}
    if item.end_line == item.line:
        properties["endColumn"] = item.end_column
    where = f"cell {item.cell}: " if item.cell is not None else ""
    listed = ",".join(f"{key}={_escape_property(str(value))}" for key, value in properties.items())
    text = _escape_data(where + "\n".join(item.lines))
    return f"::{_LEVELS[item.level]} {listed},title={_escape_property(item.title)}::{text}"


def _escape_data(text: str) -> str:
    """``text`` as GitHub reads it, but for what would act on a terminal that shows the log."""
    text = COMMAND.sub(r"#\\x23", text.translate(_VISIBLE))
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
