"""Holds what autograd gave against what the oracle knows, and draws the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from theria.probes.derivatives import Derivatives, Route
from theria.probes.foreign_errors import speaks_of_the_machine
from theria.probes.oracles import Observation, Oracle
from theria.probes.report import Block
from theria.verdicts import COTANGENT, Ground, Reason, Status, Verdict, block_name, finite

MISSING = 1e-6
"""A block smaller than this fraction of the oracle's is missing: autograd found a path that carries nothing."""

NEGLIGIBLE = 1e-4
"""A true block smaller than this fraction of its largest neighbour carries no signal that could be missed."""

CLOSE = 0.02
"""A block that differs from a doubtful oracle's by more than this fraction is not held to be right."""

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
    seen = truth.see(measured)
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
        # Within the oracle's doubt is not yet near: what hides in a large doubt is not known to be right.
        return "right" if distance <= tolerance * floor + min(doubt, CLOSE * floor) else "unclear"
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


def accuse_parts(comparison: Comparison, oracle: Oracle, tolerance: float) -> Comparison:
    """The comparison, in which a block is wrong too if a part of it is lost or wrong: in the whole that may drown.

    Where the whole is not right there is nothing to add.
    """
    if any(
        block.state not in ("right", "zero") for block in (*comparison.gradients.values(), *comparison.rows.values())
    ):
        return comparison
    gradients, rows = dict(comparison.gradients), dict(comparison.rows)
    scale, scales = _largest(oracle.gradients.values()), _row_scales(oracle)
    for a, b, measured, truth in oracle.examine_parts():
        if b is None:
            part = compare(measured, truth, scale, tolerance)
            if part.state in ("missing", "wrong"):
                gradients[a] = replace(gradients[a], error=part.error, state="wrong")
        else:
            part = compare(measured, truth, scales[b == COTANGENT], tolerance, ROUNDINGS * tolerance * scale)
            if part.state in ("missing", "wrong"):
                rows[a, b] = replace(rows[a, b], error=part.error, state="wrong")
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
    """A verdict with the status behind it and what it rests on."""

    verdict: Verdict
    status: Status
    why: Reason


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
        or _judge(Verdict.SAFE, Status.OK, Ground.ALL_AGREE, largest_error=_largest_error(comparison))
    )


def _judge(verdict: Verdict, status: Status, ground: Ground, **data: Any) -> Judgement:
    return Judgement(verdict, status, Reason(ground, data))


_AUTOGRADS_OWN = ("RuntimeError", "NotImplementedError")
"""What autograd raises where a graph is cut or a derivative is not implemented."""


def _unable(primary: Derivatives) -> Judgement | None:
    """A backward that fails for another reason than autograd's says nothing of the derivatives that it would give."""
    failure = primary.failure
    if failure is None:
        return None
    machine = speaks_of_the_machine(failure.kind, failure.message)
    if not machine and (failure.order == 2 or failure.kind in _AUTOGRADS_OWN):
        return None
    return _judge(
        Verdict.INCONCLUSIVE,
        Status.HARD_FAIL_OTHER,
        Ground.BACKWARD_NOT_RUNNABLE,
        reason=failure.explain(),
    )


def _refuses(primary: Derivatives, others: Mapping[Route, Derivatives]) -> Judgement | None:
    whole = (d for route, d in others.items() if route.only is None)  # with inputs frozen it may work
    failures = [d.failure for d in (primary, *whole)]
    if not all(failure is not None and failure.order == 1 for failure in failures):
        return None
    message = primary.failure.message if primary.failure else ""
    return _judge(Verdict.HARD_STRUCTURAL, Status.HARD_FAIL_OTHER, Ground.NEVER_DIFFERENTIABLE, message=message)


def _unused(primary: Derivatives, comparison: Comparison) -> Judgement | None:
    unused = [
        name
        for name, block in comparison.gradients.items()
        if primary.failure is None and block.norm is None and block.state == "missing"
    ]
    if not unused:
        return None
    largest = max(comparison.gradients[name].oracle_norm for name in unused)
    return _judge(
        Verdict.HARD_STRUCTURAL, Status.HARD_FAIL_UNUSED, Ground.INPUT_UNUSED, inputs=unused, norm=finite(largest)
    )


def _raises(
    primary: Derivatives, comparison: Comparison, others: Mapping[Route, Derivatives], *, once: bool
) -> Judgement | None:
    missing = [block for block in comparison.hessian().values() if block.state in ("missing", "wrong")]
    failures = [d.failure for d in (primary, *others.values()) if d.failure is not None]
    marked = any(d.error_node for d in (primary, *others.values()))
    if not failures and not (marked and missing):
        return None
    order = failures[0].order if failures else 2
    routes = [str(route) for route, d in others.items() if d.failure]
    silent = [str(r) for r, d in others.items() if not d.failure and all(v is None for v in d.rows.values())]
    return _judge(
        Verdict.FIRST_ORDER_ONLY,
        Status.HARD_FAIL_ONCE_DIFF if marked else Status.HARD_FAIL_OTHER,
        Ground.DIFFERENTIATION_RAISES,
        order=order,
        once=once,
        routes=routes if primary.failure is None else [],
        message=failures[0].message if failures else None,
        lost=len(missing) if marked and primary.failure is None else None,
        silent=silent if order == 1 else [],
    )


def _silent(comparison: Comparison, sums: Mapping[Route, dict[str, Block]]) -> Judgement | None:
    signal = {key: b for key, b in comparison.hessian().items() if b.state != "zero"}
    missing = [key for key, b in signal.items() if b.state == "missing"]
    wrong = [key for key, b in comparison.rows.items() if b.state == "wrong"]
    lost = [key for key, b in comparison.rows.items() if b.state == "missing"]
    gradients = [name for name, b in comparison.gradients.items() if b.state in ("missing", "wrong")]
    unclear = [b for b in signal.values() if b.state == "unclear" and not b.norm]  # nothing, where nothing may be right
    first = {
        "gradients": gradients,
        "gradient_error": finite(max((comparison.gradients[name].error for name in gradients), default=0.0)),
    }
    if signal and lost and len(missing) + len(unclear) == len(signal):
        blocks, doubt = [block_name(*key) for key in signal], bool(unclear)
        return _judge(Verdict.SILENT_COLLAPSE, Status.OK, Ground.SIGNAL_LOST, blocks=blocks, unclear=doubt, **first)
    if lost or wrong or gradients:
        return _judge(
            Verdict.SILENT_CORRUPTION,
            Status.OK,
            Ground.BLOCKS_LOST,
            missing=[block_name(*key) for key in lost],
            wrong=[block_name(*key) for key in wrong],
            error=finite(max((e for key in wrong if math.isfinite(e := comparison.rows[key].error)), default=0.0)),
            nan=[block_name(*key) for key in wrong if math.isnan(comparison.rows[key].norm or 0.0)],
            infinite=[block_name(*key) for key in wrong if math.isinf(comparison.rows[key].norm or 0.0)],
            **first,
        )
    for route, blocks_by_route in sums.items():
        bad = [name for name, b in blocks_by_route.items() if b.state in ("missing", "wrong")]
        if bad:
            return _judge(Verdict.SILENT_CORRUPTION, Status.OK, Ground.ROUTE_LOST, route=str(route), variables=bad)
    return None


def _nothing(comparison: Comparison) -> Judgement | None:
    if any(block.oracle_norm > 1e-12 for block in comparison.gradients.values()):
        return None
    return _judge(Verdict.INCONCLUSIVE, Status.OK, Ground.NO_DEPENDENCE, inputs=[])


def _unclear(comparison: Comparison) -> Judgement | None:
    unclear = {block_name(*key): block for key, block in comparison.rows.items() if block.state == "unclear"}
    unclear |= {f"∂L/∂{name}": block for name, block in comparison.gradients.items() if block.state == "unclear"}
    if not unclear:
        return None
    if all(math.isfinite(block.oracle_norm) for block in unclear.values()):
        return _judge(Verdict.INCONCLUSIVE, Status.OK, Ground.ORACLE_DOUBTFUL, judged=list(unclear))
    return _judge(Verdict.INCONCLUSIVE, Status.OK, Ground.FORWARD_NOT_FINITE_NEARBY)


def _largest_error(comparison: Comparison) -> float | None:
    """Of what is right: of a zero there is no part."""
    blocks = (*comparison.gradients.values(), *comparison.rows.values())
    return finite(max((block.error for block in blocks if block.state == "right"), default=0.0))
