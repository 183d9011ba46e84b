"""Reports: one module a format, named as the format, each with ``render(report, view) -> str``.

`text`, `concise`, `json`, `sarif`, `junit`, `github`, `gitlab` and `html` are formats. Shared: `summary` (what a report
amounts to, exit code), `items` (one flat list for machine formats), `grid` (heat maps), `patch` (verified rewrites as
edits), `style` (terminal). To add a format, add a module and its name to ``config.FORMATS``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from theria_lint.result import LintReport


class ReportView(NamedTuple):
    """How much to show: ``colour``, ``unicode`` and ``width`` say what the reader's terminal can do.

    ``width`` 0 leaves lines as long as they are. ``durations`` counts the slowest targets that are wanted, 0 for all of
    them, None for none; ``elapsed`` are the seconds of the run.
    """

    colour: bool = False
    unicode: bool = True
    verbose: bool = False
    show_cleared: bool = False
    statistics: bool = False
    width: int = 0
    durations: int | None = None
    elapsed: float = 0.0


def render(report: LintReport, name: str, view: ReportView) -> str:
    """The report in the format ``name``, one of ``config.FORMATS``; "" or text that ends with a newline."""
    module = import_module(f"theria_lint.report.{name}")
    text: str = module.render(report, view)
    return text
