"""Reports: one module a format, each with ``render(report, view) -> str``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from theria_lint.result import Report


class View(NamedTuple):
    """How much to show: ``colour``, ``unicode`` and ``width`` say what the reader's terminal can do.

    ``width`` 0 leaves lines as long as they are.
    """

    colour: bool = False
    unicode: bool = True
    quiet: bool = False
    verbose: bool = False
    show_cleared: bool = False
    statistics: bool = False
    width: int = 0


def render(report: Report, name: str, view: View) -> str:
    """The report in the format ``name``, one of ``settings.FORMATS``; "" or text that ends with a newline."""
    module = import_module(f"theria_lint.report.{name}")
    text: str = module.render(report, view)
    return text
