"""The block table of a run as a small heat map that also reads without colour."""

from __future__ import annotations

import math
from collections.abc import Iterable

from theria_lint.model import Run
from theria_lint.report.style import Style

FIRST = ("q", "k", "v")
LAST = "out"
# From which relative error on a cell gets which shade, colour and ASCII mark. A display of sizes, not a verdict.
_SHADES = ((0.1, "█", "red", "#"), (1e-2, "▓", "red", "+"), (1e-4, "▒", "yellow", "-"), (1e-6, "░", "green", "."))
_CELL = 11


def heatmap(run: Run, style: Style, unicode: bool) -> list[str]:
    """A row for each gradient, a column for what it is differentiated by; in each cell a shade and the error."""
    rows = _ordered(key.split(",")[0] for key in run.blocks)
    columns = _ordered(key.split(",")[1] for key in run.blocks)
    if not rows:
        return []
    lines = ["blocks     " + "".join(f"{'d/d' + name:<{_CELL}}" for name in columns).rstrip()]
    for row in rows:
        cells = [_cell(run.blocks.get(f"{row},{column}"), style, unicode) for column in columns]
        lines.append(f"  dL/d{row:<5}" + "".join(cells).rstrip())
    return lines


def _ordered(names: Iterable[str]) -> list[str]:
    """q, k, v first, the cotangent last, each once."""
    found = dict.fromkeys(names)
    return [
        *(name for name in FIRST if name in found),
        *(name for name in found if name not in (*FIRST, LAST)),
        *(name for name in (LAST,) if name in found),
    ]


def _cell(block: dict[str, float | None] | None, style: Style, unicode: bool) -> str:
    if block is None:
        return " " * _CELL
    text, shade = _text(block), _shade(block)
    mark, colour = (shade[1] if unicode else shade[3], shade[2]) if shade else (" ", None)
    return style.paint(f"{mark} {text}", colour) + " " * (_CELL - 2 - len(text))


def _text(block: dict[str, float | None]) -> str:
    if _missing(block):
        return "missing"
    if not block.get("oracle_norm") and not block.get("norm"):
        return "zero"
    error = block.get("error")
    return "?" if error is None else f"{error:.1e}"


def _missing(block: dict[str, float | None]) -> bool:
    return not block.get("norm") and bool(block.get("oracle_norm"))


def _shade(block: dict[str, float | None]) -> tuple[float, str, str, str] | None:
    error = block.get("error")
    if _missing(block) or (error is not None and math.isnan(error)):
        return _SHADES[0]
    return next((shade for shade in _SHADES if error is not None and error >= shade[0]), None)
