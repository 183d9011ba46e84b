"""Say in words what a run was: where and how exactly it was measured, against what, and what MAML would get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from theria.wording import format_percent
from theria_lint.model import Run

_NEGLIGIBLE = 1e-4
"""The relative error of a meta-gradient below which it is called right."""

AS_IT_IS = "self"
"""The backend of a run that has none of ours under it."""


def describe_run(run: Run) -> str:
    """What was measured: on which backend, where, how exactly and against what."""
    backend = "" if run.backend == AS_IT_IS else f" with the {run.backend} backend"
    device = "the CPU" if run.device == "cpu" else run.device
    oracle = "a reference attention" if run.oracle == "reference" else run.oracle
    return f"measured{backend} on {device} in {run.dtype}" + (f" against {oracle}" if oracle else "")


def describe_maml(figures: Mapping[str, Any]) -> str:
    """What meta-learning through the target would get."""
    error, difference = figures.get("meta_gradient_error"), figures.get("rel_diff")
    said = [_describe_error(error)] if isinstance(error, float) else []
    if isinstance(difference, float):
        said.append(f"second derivatives carry {format_percent(difference)} of it")
    if said:
        return ", and ".join(said)
    message = figures.get("error")
    return f"there is no meta-gradient: {message}" if message else "there is no meta-gradient"


def _describe_error(error: float) -> str:
    if error < _NEGLIGIBLE:
        return "the meta-gradient is right"
    return f"the meta-gradient is off by {format_percent(error)}"
