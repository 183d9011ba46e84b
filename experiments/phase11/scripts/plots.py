"""The two figures of the taxonomy, drawn from the table alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diagnostics import parse_blocks

from theria.verdicts import STATE_SIGNS

Row = dict[str, str]

MISSING_MATPLOTLIB = "--plot needs matplotlib, which is not installed here: run `pip install matplotlib`"

FLOOR = 1e-16
RED, LIGHT_RED, DARK_RED = "#e8604c", "#fbd5cd", "#8e1b12"
COLOURS = {"right": "#d6ecdc", "zero": "#d6ecdc", "missing": DARK_RED, "unclear": "0.85"}
LEGEND = (
    (COLOURS["right"], f"{STATE_SIGNS['right']} right, or {STATE_SIGNS['zero']} zero and truly so"),
    (RED, f"{STATE_SIGNS['wrong']} wrong, the deeper the further off"),
    (DARK_RED, f"{STATE_SIGNS['missing']} missing"),
)
"""The three states of a block that was measured; what is grey was not."""


def can_plot() -> bool:
    """Whether matplotlib is installed; does not import it."""
    return find_spec("matplotlib") is not None


def plot_rel_diff(rows: Sequence[Row], path: Path) -> None:
    """Mean FULL–FO discrepancy: a panel a backend, a line a wrapper that trains at all; a dot for one depth alone."""
    backends = _backends(rows)
    figure, axes = _figure(len(backends), width=6.5, height=5)
    for axis, backend in zip(axes, backends, strict=True):
        curves = _curves(rows, backend)
        if max(map(len, curves.values()), default=0) > 1:
            _draw_lines(axis, curves)
        else:
            _draw_dots(axis, curves)
        axis.set_title(backend)
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    _save(figure, path)


_DISCREPANCY = "‖g_FULL − g_FO‖ / ‖g_FULL‖"  # noqa: RUF001


def _draw_lines(axis: Any, curves: dict[str, list[tuple[int, float]]]) -> None:
    for number, (wrapper, points) in enumerate(curves.items()):
        # Some curves coincide: markers shrink, so that the ones below stay visible.
        axis.plot(
            *zip(*points, strict=True), marker="ov^sDPX*"[number % 8], markersize=max(4, 13 - number), label=wrapper
        )
    axis.set_xticks(sorted({depth for points in curves.values() for depth, _ in points}))
    axis.set(xlabel="inner steps", ylabel=_DISCREPANCY, ylim=(0, None))


def _draw_dots(axis: Any, curves: dict[str, list[tuple[int, float]]]) -> None:
    """A row a wrapper: with one depth there is no curve to see."""
    wrappers = list(curves)[::-1]
    axis.plot([curves[wrapper][0][1] for wrapper in wrappers], wrappers, "o", color="tab:blue")
    depths = {depth for points in curves.values() for depth, _ in points}
    steps = f" (inner steps: {min(depths)})" if depths else ""
    axis.set(xlabel=f"{_DISCREPANCY}{steps}", xlim=(0, None))


def plot_blocks(rows: Sequence[Row], path: Path) -> None:
    """The state of every block, wrapper × block, a panel a backend; grey where nothing could be measured."""
    from matplotlib.patches import Patch

    backends = _backends(rows)
    wrappers = list(dict.fromkeys(row["wrapper"] for row in rows))
    columns = [f"{a}.{b}" for a in "qkv" for b in "qkvW"]
    figure, axes = _figure(len(backends), width=7, height=0.32 * len(wrappers) + 2)
    for axis, backend in zip(axes, backends, strict=True):
        cells = _cells(rows, backend)
        axis.imshow([[_choose_colour(cells.get((w, column))) for column in columns] for w in wrappers], aspect="auto")
        for (wrapper, column), (state, _) in cells.items():
            place = columns.index(column), wrappers.index(wrapper)
            colour = "white" if state == "missing" else "black"
            axis.text(*place, STATE_SIGNS[state], ha="center", va="center", color=colour)
        axis.set_xticks(range(len(columns)), [f"∂g_{c[0]}/∂{c[2]}" for c in columns], rotation=60, fontsize="small")
        axis.set_yticks(range(len(wrappers)), wrappers, fontsize="small")
        axis.set_title(backend)
    patches = [Patch(facecolor=colour, edgecolor="0.4", label=label) for colour, label in LEGEND]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize="small")
    _save(figure, path)


def _choose_colour(cell: tuple[str, float] | None) -> tuple[float, float, float]:
    """Red for what is bad, the deeper the further off; grey where nothing is known."""
    from matplotlib.colors import to_rgb

    state, error = cell or ("unclear", 0.0)
    if state != "wrong":
        return to_rgb(COLOURS[state])
    depth = min(1.0, max(0.0, (math.log10(max(FLOOR, error)) + 4) / 4))
    light, dark = to_rgb(LIGHT_RED), to_rgb(RED)
    red, green, blue = (a + (b - a) * depth for a, b in zip(light, dark, strict=True))
    return red, green, blue


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


def _figure(panels: int, *, width: float, height: float) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, height), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    return figure, list(axes)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
