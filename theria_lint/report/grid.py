"""The gradients and blocks of a run as a grid, for the heat maps of the text and HTML formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from theria.verdicts import COTANGENT, PLAIN_SIGNS, STATE_SIGNS, block_name, variable
from theria_lint.model import STATES, Run
from theria_lint.report.style import TerminalStyle, escape_unprintable

_LEADING_NAMES = ("q", "k", "v")


@dataclass(frozen=True, slots=True)
class GridCell:
    """A gradient or a block. ``norm`` and ``oracle_norm`` are None for a gradient, of which only the error is kept.

    ``error`` is relative, None where it is not finite or was not measured.
    """

    name: str
    state: str
    error: float | None
    norm: float | None = None
    oracle_norm: float | None = None

    @property
    def has_norms(self) -> bool:
        """Whether this is a block."""
        return self.oracle_norm is not None

    @property
    def label(self) -> str:
        """The word or number that stands in the grid."""
        if self.state in ("missing", "zero", "unclear"):
            return self.state
        return "not finite" if self.error is None else f"{self.error:.1e}"


@dataclass(frozen=True, slots=True)
class DerivativeGrid:
    """Rows are the gradients g_a, columns the variables b of ∂g_a/∂b: q, k, v first, the cotangent last."""

    rows: list[str]
    columns: list[str]
    gradients: dict[str, GridCell]
    blocks: dict[tuple[str, str], GridCell]

    @classmethod
    def from_run(cls, run: Run) -> DerivativeGrid:
        """The grid of a run, without rows if nothing was measured."""
        keys = {key: _split_block_key(escape_unprintable(key)) for key in run.blocks}
        gradients = {
            escape_unprintable(name): GridCell(f"∂L/∂{name}", _get_state(run, name), error)
            for name, error in run.gradients.items()
        }
        blocks = {
            (row, column): GridCell(
                block_name(row, column),
                _get_state(run, key),
                run.blocks[key].get("error"),
                run.blocks[key].get("norm"),
                run.blocks[key].get("oracle_norm"),
            )
            for key, (row, column) in keys.items()
        }
        rows = _order_names([*gradients, *(row for row, _ in keys.values())])
        return cls(rows, _order_names(column for _, column in keys.values()), gradients, blocks)

    def iter_cells(self) -> Iterator[GridCell]:
        """Every gradient, then every block, row by row."""
        yield from (self.gradients[row] for row in self.rows if row in self.gradients)
        yield from (self.blocks[r, c] for r in self.rows for c in self.columns if (r, c) in self.blocks)

    def summarise_states(self) -> str:
        """How many blocks are in which state."""
        found = Counter(cell.state for cell in self.blocks.values())
        return ", ".join(f"{found[state]} {state}" for state in STATES if found[state]) or "none measured"


def _split_block_key(key: str) -> tuple[str, str]:
    row, _, column = key.partition(",")
    return row, column


def _get_state(run: Run, key: str) -> str:
    return run.states.get(key, "unclear")


def _order_names(names: Iterable[str]) -> list[str]:
    """q, k, v first, the cotangent last, each once."""
    found = dict.fromkeys(names)
    return [
        *(name for name in _LEADING_NAMES if name in found),
        *(name for name in found if name not in (*_LEADING_NAMES, COTANGENT)),
        *(name for name in (COTANGENT,) if name in found),
    ]


_COLOURS = {"missing": "red", "wrong": "yellow", "unclear": "yellow", "right": "green", "zero": None}
# From which relative error on what is wrong is red.
_FAR = 0.1
_MIN_CELL_WIDTH = 11


def format_heatmap(run: Run, style: TerminalStyle, unicode: bool) -> list[str]:
    """A row for each gradient g_a, a column for what it is differentiated by; in each cell a mark and the error."""
    grid = DerivativeGrid.from_run(run)
    if not grid.blocks:
        return []
    d = "∂" if unicode else "d"
    first = max(len("blocks"), *(len(row) + 4 for row in grid.rows)) + 2
    heads = ((f"{d}/{d}{variable(name)}", name) for name in grid.columns)
    lines = ["blocks".ljust(first) + "".join(head.ljust(_get_column_width(name)) for head, name in heads).rstrip()]
    for row in grid.rows:
        cells = [
            _format_cell(grid.blocks.get((row, name)), style, unicode, _get_column_width(name)) for name in grid.columns
        ]
        lines.append(f"  g_{row}".ljust(first) + "".join(cells).rstrip())
    return lines


def format_gradients(run: Run, style: TerminalStyle, unicode: bool) -> str:
    """The errors of the gradients themselves, on one line."""
    grid = DerivativeGrid.from_run(run)
    cells = (f"{name} {_format_cell(cell, style, unicode, 0)}" for name, cell in grid.gradients.items())
    return "gradients  " + "  ".join(cells)


def _get_column_width(column: str) -> int:
    return max(_MIN_CELL_WIDTH, len(column) + 5)


def _format_cell(cell: GridCell | None, style: TerminalStyle, unicode: bool, width: int) -> str:
    if cell is None:
        return " " * width
    mark = (STATE_SIGNS if unicode else PLAIN_SIGNS)[cell.state]
    word = "" if cell.state == "unclear" and cell.error is None else cell.label
    text = f"{mark} {word}"
    return style.paint_text(text, _choose_colour(cell)) + " " * (width - len(text))


def _choose_colour(cell: GridCell) -> str | None:
    is_far = cell.error is None or not cell.error < _FAR
    return "red" if cell.state == "wrong" and is_far else _COLOURS[cell.state]
