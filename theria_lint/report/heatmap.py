"""The block table of a run as a small heat map that also reads without colour."""

from __future__ import annotations

import math

from theria_lint.model import Run
from theria_lint.report.style import Style

ROWS = ("q", "k", "v")
COLUMNS = ("q", "k", "v", "out")
# From which relative error on a cell gets which shade, colour and ASCII mark. A display of sizes, not a verdict.
_SHADES = ((0.1, "█", "red", "#"), (1e-2, "▓", "red", "+"), (1e-4, "▒", "yellow", "-"), (1e-6, "░", "green", "."))
_CELL = 11


def heatmap(run: Run, style: Style, unicode: bool) -> list[str]:
    """Rows dq, dk, dv, columns what they are differentiated by; each cell a shade and the relative error."""
    if not run.blocks:
        return []
    rows = [key.split(",")[0] for key in run.blocks]
    columns = [key.split(",")[1] for key in run.blocks]
    heads = [name for name in dict.fromkeys((*COLUMNS, *columns)) if name in columns]
    lines = ["error of  " + "".join(f"{'d/d' + head:<{_CELL}}" for head in heads).rstrip()]
    for row in [name for name in dict.fromkeys((*ROWS, *rows)) if name in rows]:
        cells = [_cell(run.blocks.get(f"{row},{head}"), style, unicode) for head in heads]
        lines.append(f"  dL/d{row:<4}" + "".join(cells).rstrip())
    return lines


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
