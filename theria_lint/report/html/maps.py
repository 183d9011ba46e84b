"""The heat map of a run: every gradient and block with its state, in colour, sign and number."""

from __future__ import annotations

from collections.abc import Iterator

from theria.verdicts import COTANGENT, variable
from theria_lint.model import Run
from theria_lint.report.cells import Cell, Grid
from theria_lint.report.html.markup import Markup, joined, tag
from theria_lint.report.html.words import STATES, sign

# From which relative error on a block that is wrong, or right, gets which shade.
_WRONG = ((0.1, 3), (1e-2, 2), (0.0, 1))
_RIGHT = ((1e-4, 3), (1e-8, 2), (0.0, 1))
# The size of a square of the small map, and the space from one to the next.
_SQUARE, _STEP = 9, 11


def heat_map(grid: Grid) -> Markup:
    """A row for each gradient g_a: its own error, then that of its derivative by each input and by the cotangent W."""
    head = tag(
        "tr",
        tag("td"),
        *([tag("th", "gradient", scope="col", class_="first")] if grid.gradients else []),
        *(tag("th", f"\u2202/\u2202{variable(name)}", scope="col", class_=_place(name)) for name in grid.columns),
    )
    rows = (tag("tr", tag("th", f"g_{name}", scope="row"), *_cells(grid, name)) for name in grid.rows)
    caption = tag("caption", "Relative errors of the gradients g and of their derivatives", class_="hidden")
    table = tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="map")
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Heat map")


def _cells(grid: Grid, row: str) -> Iterator[Markup]:
    if grid.gradients:
        yield _cell(grid.gradients.get(row), "first")
    for column in grid.columns:
        yield _cell(grid.blocks.get((row, column)), _place(column))


def _cell(cell: Cell | None, place: str) -> Markup:
    if cell is None:
        return tag("td", class_=place)
    glyph, meaning = STATES[cell.state]
    says = f"{cell.name}: {cell.state}, {meaning}; {_numbers(cell)}"
    return tag("td", sign(glyph), " ", cell.label, class_=f"{place} {_shade(cell)}".strip(), title=says)


def _numbers(cell: Cell) -> str:
    norm, oracle_norm, error = _figures(cell)
    norms = f"norm {norm}, oracle's {oracle_norm}, " if cell.has_norms else ""
    return f"{norms}relative error {error}"


def _figures(cell: Cell) -> tuple[str, str, str]:
    """The norm (None where autograd gave no tensor), the oracle's, the relative error: of a gradient only the last."""
    error = "not known" if cell.error is None else f"{cell.error:.3g}"
    if cell.oracle_norm is None:
        return "", "", error
    return "None" if cell.norm is None else f"{cell.norm:.3g}", f"{cell.oracle_norm:.3g}", error


def _shade(cell: Cell) -> str:
    """The classes of a cell: its state, and for a number how far off it is."""
    if cell.state not in ("wrong", "right"):
        return cell.state
    error = float("inf") if cell.error is None else cell.error
    steps = _WRONG if cell.state == "wrong" else _RIGHT
    return f"{cell.state} shade{next((shade for floor, shade in steps if error >= floor), 3)}"


def _place(column: str) -> str:
    return "last" if column == COTANGENT else ""


def numbers(run: Run) -> Markup:
    """Every number behind a heat map, as a table."""
    grid = Grid.of(run)
    heads = ("", "state", "norm", "oracle\u2019s norm", "relative error")
    head = tag("tr", *(tag("th", name, scope="col") if name else tag("td") for name in heads))
    rows = (
        tag(
            "tr",
            tag("th", cell.name, scope="row"),
            tag("td", sign(STATES[cell.state][0]), " ", cell.state, class_=f"state {cell.state}"),
            *(tag("td", figure, class_="number") for figure in _figures(cell)),
        )
        for cell in grid.cells()
    )
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="numbers")
    body = tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Numbers")
    return tag("details", tag("summary", "Norms and errors"), body, class_="more")


def small_map(grid: Grid) -> Markup:
    """The Hessian and cotangent blocks as signs of a few pixels each, for a line in a list."""
    width, height = _STEP * len(grid.columns), _STEP * len(grid.rows)
    signs = [
        _small(cell, _STEP * x, _STEP * y)
        for y, row in enumerate(grid.rows)
        for x, column in enumerate(grid.columns)
        if (cell := grid.blocks.get((row, column)))
    ]
    return tag(
        "svg",
        *signs,
        class_="small",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"Blocks: {grid.summary()}",
    )


def _small(cell: Cell, x: int, y: int) -> Markup:
    """A full square is missing, a triangle wrong, a dot right, a dash zero, an empty square unclear."""
    far, middle = _SQUARE, _SQUARE / 2
    shapes = {
        "missing": f"M{x} {y}h{far}v{far}h-{far}z",
        "wrong": f"M{x} {y + far}h{far}l-{middle} -{far}z",
        "right": f"M{x + middle} {y + middle - 2}a2 2 0 1 0 .01 0z",
        "zero": f"M{x + 2} {y + middle}h{far - 4}",
        "unclear": f"M{x + 1} {y + 1}h{far - 2}v{far - 2}h-{far - 2}z",
    }
    return tag("path", d=shapes[cell.state], class_=cell.state)


def legend() -> Markup:
    """What the signs of the heat maps mean."""
    entries = (
        tag("li", tag("span", sign(glyph), " ", state, class_=f"key {state}"), " ", meaning)
        for state, (glyph, meaning) in STATES.items()
    )
    return tag("ul", joined(*entries), class_="legend")
