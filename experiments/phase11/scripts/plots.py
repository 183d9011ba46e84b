"""The two figures of the taxonomy, drawn from the table alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diagnostics import parse_blocks

Row = dict[str, str]

MISSING_MATPLOTLIB = "--plot needs matplotlib, which is not installed here: run `pip install matplotlib`"

MARKS = {"right": "", "zero": "0", "missing": "×", "wrong": "!", "unclear": "?"}  # noqa: RUF001
FLOOR = 1e-16


def can_plot() -> bool:
    """Whether matplotlib is installed; does not import it."""
    return find_spec("matplotlib") is not None


def plot_rel_diff(rows: Sequence[Row], path: Path) -> None:
    """Mean FULL–FO discrepancy against inner steps: a panel a backend, a line a wrapper that trains at all."""
    backends = _backends(rows)
    figure, axes = _figure(len(backends), width=6.5, height=5)
    for axis, backend in zip(axes, backends, strict=True):
        curves = _curves(rows, backend)
        for number, (wrapper, points) in enumerate(curves.items()):
            # Some curves coincide: markers shrink, so that the ones below stay visible.
            axis.plot(
                *zip(*points, strict=True), marker="ov^sDPX*"[number % 8], markersize=max(4, 13 - number), label=wrapper
            )
        axis.set_xticks(sorted({depth for points in curves.values() for depth, _ in points}))
        axis.set(title=backend, xlabel="inner steps", ylabel="‖g_FULL − g_FO‖ / ‖g_FULL‖", ylim=(0, None))  # noqa: RUF001
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    _save(figure, path)


def plot_blocks(rows: Sequence[Row], path: Path) -> None:
    """Relative error of every block, wrapper × block, a panel a backend; grey where nothing could be measured."""
    backends = _backends(rows)
    wrappers = list(dict.fromkeys(row["wrapper"] for row in rows))
    columns = [f"{a}.{b}" for a in "qkv" for b in "qkvW"]
    figure, axes = _figure(len(backends), width=7, height=0.32 * len(wrappers) + 2)
    image = None
    for axis, backend in zip(axes, backends, strict=True):
        cells = _cells(rows, backend)
        grid = [[_log_error(cells.get((wrapper, column))) for column in columns] for wrapper in wrappers]
        axis.set_facecolor("0.85")
        image = axis.imshow(grid, aspect="auto", cmap="viridis", vmin=math.log10(FLOOR), vmax=0)
        for (wrapper, column), (state, error) in cells.items():
            place = columns.index(column), wrappers.index(wrapper)
            axis.text(*place, MARKS[state], ha="center", va="center", color="black" if error > 1e-6 else "white")
        axis.set_xticks(range(len(columns)), [f"∂g_{c[0]}/∂{c[2]}" for c in columns], rotation=60, fontsize="small")
        axis.set_yticks(range(len(wrappers)), wrappers, fontsize="small")
        axis.set_title(backend)
    figure.colorbar(image, ax=axes, label="log₁₀ relative error   (× missing, ! wrong, 0 truly zero)")  # noqa: RUF001
    _save(figure, path)


def _backends(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["attention_backend"] for row in rows))


def _curves(rows: Sequence[Row], backend: str) -> dict[str, list[tuple[int, float]]]:
    """(inner steps, rel_diff averaged over seeds) by wrapper; wrappers that fail hard have no curve."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["attention_backend"] == backend and row["rel_diff_mean"]:
            values[row["wrapper"]][int(row["inner_steps"])].append(float(row["rel_diff_mean"]))
    return {
        wrapper: [(steps, sum(found) / len(found)) for steps, found in sorted(by_steps.items())]
        for wrapper, by_steps in values.items()
    }


def _cells(rows: Sequence[Row], backend: str) -> dict[tuple[str, str], tuple[str, float]]:
    """State and error by (wrapper, block): the largest error of the wrapper's rows."""
    cells: dict[tuple[str, str], tuple[str, float]] = {}
    for row in rows:
        if row["attention_backend"] != backend:
            continue
        for column, cell in parse_blocks(row["blocks"]).items():
            key = (row["wrapper"], column)
            cells[key] = max(cells.get(key, cell), cell, key=lambda c: c[1])
    return cells


def _log_error(cell: tuple[str, float] | None) -> float:
    return math.nan if cell is None else math.log10(max(FLOOR, cell[1]))


def _figure(panels: int, *, width: float, height: float) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, height), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    return figure, list(axes)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
