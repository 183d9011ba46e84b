"""The block table of a run as a small heat map that also reads without colour."""

from __future__ import annotations

from theria.verdicts import variable
from theria_lint.model import Run
from theria_lint.report.cells import Cell, Grid
from theria_lint.report.style import Style

# State or, for what is wrong, from which relative error on: mark, colour and ASCII mark. The more ink, the worse.
_MARKS = {
    "missing": ("█", "red", "#"),
    "wrong": ("░", "yellow", "-"),
    "unclear": ("?", "yellow", "?"),
    "right": ("·", "green", "."),
    "zero": (" ", None, " "),
}
_WRONG = ((0.1, ("▓", "red", "!")), (1e-2, ("▒", "yellow", "+")))
_CELL = 11


def heatmap(run: Run, style: Style, unicode: bool) -> list[str]:
    """A row for each gradient g_a, a column for what it is differentiated by; in each cell a mark and the error."""
    grid = Grid.of(run)
    if not grid.blocks:
        return []
    d = "∂" if unicode else "d"
    first = max(len("blocks"), *(len(row) + 4 for row in grid.rows)) + 2
    heads = ((f"{d}/{d}{variable(name)}", name) for name in grid.columns)
    lines = ["blocks".ljust(first) + "".join(head.ljust(_width(name)) for head, name in heads).rstrip()]
    for row in grid.rows:
        cells = [_cell(grid.blocks.get((row, name)), style, unicode, _width(name)) for name in grid.columns]
        lines.append(f"  g_{row}".ljust(first) + "".join(cells).rstrip())
    return lines


def gradients(run: Run, style: Style, unicode: bool) -> str:
    """The errors of the gradients themselves, on one line."""
    grid = Grid.of(run)
    cells = (f"{name} {_cell(cell, style, unicode, 0)}" for name, cell in grid.gradients.items())
    return "gradients  " + "  ".join(cells)


def _width(column: str) -> int:
    return max(_CELL, len(column) + 5)


def _cell(cell: Cell | None, style: Style, unicode: bool, width: int) -> str:
    if cell is None:
        return " " * width
    mark, colour, ascii_mark = _mark(cell)
    word = "" if cell.state == "unclear" and cell.error is None else cell.label
    text = f"{mark if unicode else ascii_mark} {word}"
    return style.paint(text, colour) + " " * (width - len(text))


def _mark(cell: Cell) -> tuple[str, str | None, str]:
    error = float("inf") if cell.error is None else cell.error
    shades = _WRONG if cell.state == "wrong" else ()
    return next((mark for floor, mark in shades if not error < floor), _MARKS[cell.state])
