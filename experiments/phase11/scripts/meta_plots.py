"""The table and the figure of the meta-training runs, from their lines alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

Row = dict[str, Any]
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Student's t for 95 % intervals, by the number of runs; 1.96 for more."""
REACHED = {"spots": 0.55, "moving": 0.9}
"""The accuracy on validation tasks, by family, to which steps are counted: sound attention gets there."""


def group(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Runs by family and arm, in the order in which they were made."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["family"], f"{row['attention']}:{row['mode']}"].append(row)
    return found


def estimate(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % interval; NaN for the interval of one value."""
    if len(values) < 2:
        return mean(values), math.nan
    return mean(values), T_95.get(len(values), 1.96) * stdev(values) / math.sqrt(len(values))


def count_steps(row: Row) -> int | None:
    """Meta-training steps until the validation tasks were told well enough; None if they never were."""
    return next((i * row["every"] for i, value in enumerate(row["curve"]) if value >= REACHED[row["family"]]), None)


def summarise(rows: Sequence[Row], depth: int) -> str:
    """A row an arm: accuracy before adaptation, at the trained depth and at 20 steps, steps to it, alignment."""
    heads = f"0 steps   {depth} steps      20 steps     to reach it   alignment"
    lines = [f"{'family':<7} {'arm':<42} n   {heads}"]
    for (family, arm), runs in group(rows).items():
        good = [row for row in runs if "error" not in row]
        if not good:
            lines.append(f"{family:<7} {arm:<42} {len(runs):<3} {runs[0]['error'].partition(':')[0]}")
            continue
        cells = [format_share(estimate([row["accuracy"][key] for row in good])) for key in ("0", str(depth), "20")]
        reached = [steps for row in good if (steps := count_steps(row)) is not None]
        told = f"{mean(reached):.0f} ({len(reached)}/{len(good)})" if reached else f"never (0/{len(good)})"
        aligned, half = estimate([mean(row["alignment"]) for row in good])
        lines.append(
            f"{family:<7} {arm:<42} {len(good):<3} {cells[0]:<9} {cells[1]:<12} {cells[2]:<12} {told:<13} "
            f"{aligned:.2f} ± {half:.2f}"
        )
    return "\n".join(lines)


def format_share(found: tuple[float, float]) -> str:
    """A share in per cent with half of its interval."""
    return f"{100 * found[0]:.0f} ± {100 * found[1]:.0f}"


def plot_accuracy(rows: Sequence[Row], path: Path, depth: int) -> str:
    """Held-out accuracy against inner steps, a panel a family, with 95 % intervals; returns where it is."""
    from matplotlib.figure import Figure

    groups = {key: [row for row in runs if "error" not in row] for key, runs in group(rows).items()}
    names = list(dict.fromkeys(family for family, _ in groups))
    arms = list(dict.fromkeys(arm for _, arm in groups))
    figure = Figure(figsize=(5.5 * len(names), 4.6), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axis, name in zip(axes, names, strict=True):
        for (family, arm), runs in groups.items():
            if family != name or not runs:
                continue
            depths = sorted(map(int, runs[0]["accuracy"]))
            found = [estimate([row["accuracy"][str(d)] for row in runs]) for d in depths]
            middle, half = [value for value, _ in found], [0 if math.isnan(h) else h for _, h in found]
            sound = arm.startswith("baseline:")
            colour = "black" if sound else f"C{arms.index(arm) % 10}"
            axis.errorbar(
                depths, middle, half, label=arm, color=colour, capsize=2, ls="--" if arm.endswith(":FO") else "-"
            )
        axis.axvline(depth, color="0.8", zorder=0)
        axis.set(
            title=name, xlabel="inner steps", xscale="symlog", xticks=[0, 1, 3, 10, 20], xticklabels=[0, 1, 3, 10, 20]
        )
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("held-out accuracy")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return str(path)
