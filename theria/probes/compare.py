"""Holds what autograd gave against what the oracle knows, and draws the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from theria.probes.derivatives import Derivatives, Failure, Route
from theria.probes.oracles import Observation, Oracle
from theria.probes.report import Block
from theria.verdicts import COTANGENT, Status, Verdict, block_name

MISSING = 1e-6
"""A block smaller than this fraction of the oracle's is missing: autograd found a path that carries nothing."""

NEGLIGIBLE = 1e-4
"""A true block smaller than this fraction of its largest neighbour carries no signal that could be missed."""

DOUBTFUL = 0.3
"""An oracle that may be off by more than this fraction of what it judges does not judge it."""

ROUNDINGS = 1e-3
"""A tolerance is some 10³ roundings: a block smaller than one rounding of the gradients it derives is nothing."""


def compare(
    measured: Tensor | None, truth: Observation, scale: float, tolerance: float, rounding: float = 0.0
) -> Block:
    """One gradient or block beside the oracle's.

    ``scale`` is the largest true norm among its neighbours, ``rounding`` the norm below which there is nothing.
    """
    seen = torch.zeros_like(truth.value) if measured is None else truth.view(measured)
    norm = None if measured is None else float(seen.norm())
    floor = max(truth.norm, NEGLIGIBLE * scale, 1e-300)
    distance = float((seen - truth.value).norm())
    error = distance / floor if math.isfinite(distance) else math.inf
    none = (norm or 0.0) <= rounding and truth.norm + 3 * truth.uncertainty <= rounding
    state = "zero" if none else _state(norm, truth, distance, floor, scale, tolerance, rounding)
    return Block(norm, truth.norm, error, state)


def _state(
    norm: float | None,
    truth: Observation,
    distance: float,
    floor: float,
    scale: float,
    tolerance: float,
    rounding: float,
) -> str:
    if not (math.isfinite(truth.norm) and math.isfinite(truth.uncertainty)):
        return "unclear"
    doubt = 3 * truth.uncertainty
    nothing = (norm or 0.0) <= MISSING * truth.norm
    carries_signal = truth.norm > NEGLIGIBLE * scale
    if doubt > DOUBTFUL * floor and carries_signal:
        return "missing" if nothing and truth.norm > doubt else "unclear"
    if not distance <= tolerance * floor + doubt:
        return "missing" if nothing else "wrong"
    if carries_signal:
        return "right"
    # Nothing was seen of what may be as large as its neighbours, or as the gradients: that is no sign of a zero.
    return "unclear" if doubt > DOUBTFUL * max(scale, rounding / (ROUNDINGS * tolerance)) else "zero"


@dataclass(frozen=True)
class Comparison:
    """A route's gradients and rows, each beside the oracle's."""

    gradients: dict[str, Block]
    rows: dict[tuple[str, str], Block]

    def hessian(self) -> dict[tuple[str, str], Block]:
        """The blocks ∂g_a/∂b, cotangent blocks left out."""
        return {key: block for key, block in self.rows.items() if key[1] != COTANGENT}


def compare_all(measured: Derivatives, oracle: Oracle, tolerance: float) -> Comparison:
    """Every gradient, Hessian block and cotangent block of the primary route."""
    scale = _largest(oracle.gradients.values())
    gradients = {
        a: compare(measured.gradients.get(a), truth, scale, tolerance) for a, truth in oracle.gradients.items()
    }
    scales, rounding = _row_scales(oracle), ROUNDINGS * tolerance * scale
    rows = {
        key: compare(measured.rows.get(key), truth, scales[key[1] == COTANGENT], tolerance, rounding)
        for key, truth in oracle.rows.items()
    }
    return Comparison(gradients, rows)


def compare_sums(measured: Derivatives, route: Route, oracle: Oracle, tolerance: float) -> dict[str, Block]:
    """The rows of a secondary route, which come summed over what required grad, by differentiated variable."""
    scales, rounding = _row_scales(oracle), ROUNDINGS * tolerance * _largest(oracle.gradients.values())
    sums = {}
    active = [name for name in oracle.gradients if route.only in (None, name)]
    if not measured.in_graph:
        measured = replace(measured, rows={("*", name): None for name in (*active, COTANGENT)})
    for source, variable in measured.rows:
        parts = [truth for (a, b), truth in oracle.rows.items() if b == variable and a in active]
        truth = Observation(
            torch.stack([p.value for p in parts]).sum(0), parts[0].view, sum(p.uncertainty for p in parts)
        )
        scale = scales[variable == COTANGENT]
        sums[variable] = compare(measured.rows[source, variable], truth, scale, tolerance, rounding)
    return sums


def _row_scales(oracle: Oracle) -> dict[bool, float]:
    """The largest true norm among Hessian blocks (False) and among cotangent blocks (True)."""
    return {
        kind: _largest(o for (_, b), o in oracle.rows.items() if (b == COTANGENT) == kind) for kind in (False, True)
    }


def _largest(truths: Iterable[Observation]) -> float:
    return max((truth.norm for truth in truths if math.isfinite(truth.norm)), default=0.0)


@dataclass(frozen=True)
class Judgement:
    """A verdict with the status behind it and one sentence of evidence."""

    verdict: Verdict
    status: Status
    reason: str


def judge(
    primary: Derivatives,
    comparison: Comparison,
    others: Mapping[Route, Derivatives],
    sums: Mapping[Route, dict[str, Block]],
    *,
    once: bool,
) -> Judgement:
    """The verdict, decided in the order that docs/verdicts.md gives.

    ``once``: the first derivative can be had where no graph of it is asked for, though the routes raise.
    """
    return (
        _unable(primary)
        or (None if once else _refuses(primary, others))
        or _unused(primary, comparison)
        or _raises(primary, comparison, others, once=once)
        or _silent(comparison, sums)
        or _nothing(comparison)
        or _unclear(comparison)
        or Judgement(Verdict.SAFE, Status.OK, _agreement(comparison))
    )


_AUTOGRADS_OWN = ("RuntimeError", "NotImplementedError")
"""What autograd raises where a graph is cut or a derivative is not implemented."""

_OF_THE_MACHINE = ("ImportError", "ModuleNotFoundError", "InterpreterError", "CompilationError", "OutOfResources")
_MACHINE_WORDS = (
    *("CUDA", "NVIDIA", "active driver", "no kernel image", "can't allocate memory"),
    *("pip install", "upgrade"),  # what is installed here will not do
)


def _unable(primary: Derivatives) -> Judgement | None:
    """A backward that fails for another reason than autograd's says nothing of the derivatives that it would give."""
    failure = primary.failure
    if failure is None:
        return None
    machine = failure.kind in _OF_THE_MACHINE or any(word in failure.message for word in _MACHINE_WORDS)
    if not machine and (failure.order == 2 or failure.kind in _AUTOGRADS_OWN):
        return None
    reason = f"its backward could not be run here: {failure.kind}: {failure.message}"
    return Judgement(Verdict.INCONCLUSIVE, Status.HARD_FAIL_OTHER, reason)


def _refuses(primary: Derivatives, others: Mapping[Route, Derivatives]) -> Judgement | None:
    whole = (d for route, d in others.items() if route.only is None)  # with inputs frozen it may work
    failures = [d.failure for d in (primary, *whole)]
    if not all(failure is not None and failure.order == 1 for failure in failures):
        return None
    reason = f"the first differentiation raises: {primary.failure.message}" if primary.failure else ""
    return Judgement(Verdict.HARD_STRUCTURAL, Status.HARD_FAIL_OTHER, reason)


def _unused(primary: Derivatives, comparison: Comparison) -> Judgement | None:
    unused = [
        name
        for name, block in comparison.gradients.items()
        if primary.failure is None and block.norm is None and block.state == "missing"
    ]
    if not unused:
        return None
    names = ", ".join(unused)
    largest = max(comparison.gradients[name].oracle_norm for name in unused)
    reason = f"autograd says that {names} is unused, and the true gradient is not zero (norm {largest:.3g})"
    return Judgement(Verdict.HARD_STRUCTURAL, Status.HARD_FAIL_UNUSED, reason)


def _raises(
    primary: Derivatives, comparison: Comparison, others: Mapping[Route, Derivatives], *, once: bool
) -> Judgement | None:
    missing = [block for block in comparison.hessian().values() if block.state in ("missing", "wrong")]
    failures = [d.failure for d in (primary, *others.values()) if d.failure is not None]
    marked = any(d.error_node for d in (primary, *others.values()))
    if not failures and not (marked and missing):
        return None
    told = failures[0] if failures else Failure(2, "RuntimeError", "its node is in the graph, pruned by autograd.grad")
    order = "second" if told.order == 2 else "first"
    wanted = " where its graph is asked for" if once else ""
    routes = [str(route) for route, d in others.items() if d.failure]
    where = f" ({'; '.join(routes)})" if routes and primary.failure is None else ""
    reason = f"the {order} differentiation raises{wanted}{where}: {told.message}"
    lost = _count(missing, "block")
    if marked and primary.failure is None:
        reason += f"; autograd.grad does not raise but loses {lost}"
    if told.order == 1:
        silent = [str(r) for r, d in others.items() if not d.failure and all(v is None for v in d.rows.values())]
        reason += f"; {' and '.join(silent)} loses every block in silence" if silent else ""
    status = Status.HARD_FAIL_ONCE_DIFF if marked else Status.HARD_FAIL_OTHER
    return Judgement(Verdict.FIRST_ORDER_ONLY, status, reason)


def _silent(comparison: Comparison, sums: Mapping[Route, dict[str, Block]]) -> Judgement | None:
    signal = {key: b for key, b in comparison.hessian().items() if b.state != "zero"}
    missing = [key for key, b in signal.items() if b.state == "missing"]
    wrong = [key for key, b in comparison.rows.items() if b.state == "wrong"]
    lost = [key for key, b in comparison.rows.items() if b.state == "missing"]
    gradients = [name for name, b in comparison.gradients.items() if b.state in ("missing", "wrong")]
    unclear = [b for b in signal.values() if b.state == "unclear" and not b.norm]  # nothing, where nothing may be right
    if signal and lost and len(missing) + len(unclear) == len(signal):
        all_of_them = "the one Hessian block" if len(signal) == 1 else f"all {len(signal)} Hessian blocks"
        verb = ("carries", "is") if len(signal) == 1 else ("may carry" if unclear else "carry", "are")
        reason = f"nothing raises, and {all_of_them} that {verb[0]} signal {verb[1]} missing"
        return Judgement(Verdict.SILENT_COLLAPSE, Status.OK, reason + _gradient_note(gradients, comparison))
    if lost or wrong or gradients:
        parts = []
        if lost:
            parts.append(f"missing {_names(lost)}")
        if wrong:
            worst = max(wrong, key=lambda key: comparison.rows[key].error)
            parts.append(f"wrong {_names(wrong)} (off by {comparison.rows[worst].error:.2g} of its norm at worst)")
        reason = "nothing raises, but " + "; ".join(parts) if parts else "nothing raises"
        return Judgement(Verdict.SILENT_CORRUPTION, Status.OK, reason + _gradient_note(gradients, comparison))
    for route, blocks in sums.items():
        bad = [name for name, b in blocks.items() if b.state in ("missing", "wrong")]
        if bad:
            reason = (
                f"by {route}, nothing raises, but derivatives of the gradients in {', '.join(bad)} are lost or wrong"
            )
            return Judgement(Verdict.SILENT_CORRUPTION, Status.OK, reason)
    return None


def _nothing(comparison: Comparison) -> Judgement | None:
    if any(block.oracle_norm > 1e-12 for block in comparison.gradients.values()):
        return None
    reason = "its output does not depend on its inputs as it was called: there is no derivative to lose"
    return Judgement(Verdict.INCONCLUSIVE, Status.OK, reason)


def _unclear(comparison: Comparison) -> Judgement | None:
    unclear = {block_name(*key): block for key, block in comparison.rows.items() if block.state == "unclear"}
    unclear |= {f"∂L/∂{name}": block for name, block in comparison.gradients.items() if block.state == "unclear"}
    if not unclear:
        return None
    if all(math.isfinite(block.oracle_norm) for block in unclear.values()):
        judged = ", ".join(unclear)
        reason = f"its forward is too coarse or too steep for finite differences to judge {judged}; give an oracle"
    else:
        reason = "its forward is not finite a short way from where it was probed; give other arguments or an oracle"
    return Judgement(Verdict.INCONCLUSIVE, Status.OK, reason)


def _gradient_note(names: list[str], comparison: Comparison) -> str:
    if not names:
        return ""
    worst = max(comparison.gradients[name].error for name in names)
    return f"; the gradient of {', '.join(names)} is wrong already (off by {worst:.2g} of its norm)"


def _names(keys: list[tuple[str, str]]) -> str:
    return ", ".join(block_name(a, b) for a, b in keys)


def _count(items: list[Block], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _agreement(comparison: Comparison) -> str:
    blocks = (*comparison.gradients.values(), *comparison.rows.values())
    worst = max((block.error for block in blocks if block.state == "right"), default=0.0)  # of a zero there is no part
    return f"all gradients and blocks agree with the oracle (largest relative error {worst:.1e})"
