"""One measurement: a function at given inputs, held against the oracle, summed up in a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from theria.attention.execution_record import executed_backends
from theria.probes.compare import Comparison, accuse_parts, compare_all, compare_sums, judge
from theria.probes.derivatives import (
    PRIMARY,
    SECONDARY,
    Derivatives,
    Route,
    differentiate,
    differentiates_once,
    frozen_routes,
)
from theria.probes.node_origin import find_origins
from theria.probes.oracles import ROUNDED, FiniteDifferences, Oracle, trusted
from theria.probes.point import Function, Point, call, carry, place, trial
from theria.probes.report import Report
from theria.probes.rounding import TOLERANCES, effective_dtype, relative_error
from theria.verdicts import Ground, Reason, Status, Verdict

AGREEMENT = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Relative forward error up to which a trusted function computes the same thing as the target."""


SAME = 1e-9
"""That up to which the same code computes the same on two devices, in float64."""

MOVED = 0.1
"""How far, along a direction of the point, the other point lies at which two functions are held against each other."""

CPU = torch.device("cpu")

SCORED = ("q", "k")
"""The inputs that an attention makes its weights of."""


class Trusted(NamedTuple):
    """A function whose derivatives by autograd are right, and the name it has in a report."""

    name: str
    function: Function


def measure(
    function: Function,
    inputs: Mapping[str, Tensor],
    *,
    references: Sequence[Trusted] = (),
    twin: Function | None = None,
    cpu_twin: Function | None = None,
    routes: Sequence[Route] = SECONDARY,
    seed: int = 0,
    configuration: str = "",
    computed_in: torch.dtype | None = None,
    is_slow: Callable[[], bool] = lambda: False,
    sizes: Mapping[str, Sequence[int]] | None = None,
) -> Report:
    """Probe a function at given inputs.

    Args:
        function: takes the inputs by position, in their order; returns one floating-point tensor.
        inputs: named tensors of any shapes, strides and floating dtypes, on one device; they are copied.
        references: trusted functions of the same inputs. The first whose forward agrees with the function's, in
            float64, is the oracle; if none does, finite differences of the function's own forward are.
        twin: another implementation of the same function, whose finite differences are cheaper; it is used where its
            forward agrees.
        cpu_twin: the same function of inputs on the CPU, for inputs on a GPU, where processes wait for each other: it
            is used for finite differences where its forward agrees to 1e-9, here and at another point.
        routes: how to differentiate beside ``autograd.grad`` twice.
        seed: of the probe's own generator, and of the random numbers that the function draws.
        configuration: a name for the inputs, kept in the report.
        is_slow: asked once the function has been called: whether finite differences are to spare calls of it.
        computed_in: the precision that the function computes in, where it is known to be lower than the inputs'.
        sizes: of a 1-D input that is many tensors laid end to end, the number of entries of each: where differences
            are the oracle, what is wrong in a small one does not drown in the others.

    Raises:
        Exception: whatever the function's forward raises; TypeError if it returns no floating-point tensor.
    """
    with executed_backends() as backends:
        output = trial(function, inputs, seed)
        trial(function, {name: tensor / 2 for name, tensor in inputs.items()}, seed)
        again = trial(function, inputs, seed)  # what it remembers of other inputs, if anything, shows here
    point = place(inputs, output, seed, sizes)
    dtype = next(iter(inputs.values())).dtype
    empty = Report(
        Status.OK,
        Verdict.INCONCLUSIVE,
        Reason(Ground.FORWARD_NOT_FINITE),
        dtype=str(dtype).removeprefix("torch."),
        device=output.device.type,
        configuration=configuration,
        backends=tuple(dict.fromkeys(backends)),
    )
    if not bool(torch.isfinite(output).all()):
        return empty
    if again.shape != output.shape or relative_error(again, output) > TOLERANCES[dtype]:
        return replace(empty, why=Reason(Ground.FORWARD_NOT_REPEATABLE))
    primary = differentiate(function, point, PRIMARY)
    if not primary.in_graph:
        why = Reason(Ground.OUTPUT_OUTSIDE_GRAPH)
        return replace(empty, status=Status.HARD_FAIL_UNUSED, verdict=Verdict.HARD_STRUCTURAL, why=why)
    # Where autograd.grad refuses the first differentiation, the other routes tell what .backward makes of it.
    refused = primary.failure is not None and primary.failure.order == 1
    others = {route: differentiate(function, point, route) for route in (SECONDARY if refused else routes)}
    others |= _with_frozen_inputs(function, point) if routes else {}
    same, at = function, point
    if output.device != CPU:  # what has been measured is held against the oracle there
        same, at, primary = carry(function, output.device), point.to(CPU), primary.to(CPU)
        others = {route: found.to(CPU) for route, found in others.items()}
        twin = cpu_twin if _is_same(cpu_twin, same, at, primary.output) else twin and carry(twin, output.device)
    oracle, forward_error, tolerance = _oracle(same, at, primary, references, twin, computed_in or dtype, is_slow)
    comparison = accuse_parts(compare_all(primary, oracle, tolerance), oracle, tolerance)
    sums = {route: compare_sums(d, route, oracle, tolerance) for route, d in others.items() if not d.failure}
    once = refused and differentiates_once(function, point)
    judgement = judge(primary, comparison, others, sums, once=once)
    if judgement.verdict is Verdict.SAFE and _ignores_scores(same, at, comparison, primary.output):
        why = Reason(Ground.NO_DEPENDENCE, {"inputs": list(SCORED)})
        judgement = replace(judgement, verdict=Verdict.INCONCLUSIVE, why=why)
    failures = [d.failure for d in (primary, *others.values()) if d.failure]
    return replace(
        empty,
        status=judgement.status,
        verdict=judgement.verdict,
        why=judgement.why,
        gradients=comparison.gradients,
        blocks={f"{a},{b}": block for (a, b), block in comparison.rows.items()},
        oracle=oracle.name,
        noise_floor=tolerance,
        forward_error=forward_error,
        error=failures[0].message if failures else None,
        remarks=tuple(find_origins(function, point)) if routes and judgement.verdict.unsafe else (),
    )


def closest_reference(
    output: Tensor, inputs: Mapping[str, Tensor], references: Sequence[Trusted], seed: int
) -> tuple[Trusted | None, float]:
    """The trusted function whose float64 output is nearest to an output, and its relative error."""
    exact = {name: tensor.detach().to(torch.float64) for name, tensor in inputs.items()}
    errors: list[tuple[Trusted | None, float]] = [(None, float("inf"))]
    for reference in references:
        truth = call(reference.function, exact, seed)
        if truth.shape == output.shape:
            errors.append((reference, relative_error(output, truth)))
    return min(errors, key=lambda found: found[1])


def _ignores_scores(function: Function, point: Point, comparison: Comparison, output: Tensor) -> bool:
    """Whether an attention gives the same for another q and k.

    With one key the weights are 1 whatever they are: such a call tells of v, and nothing of attention. Where it has a
    slope in them it is not called again.
    """
    if not point.inputs.keys() >= {*SCORED, "v"} or any(comparison.gradients[n].state != "zero" for n in SCORED):
        return False
    leaves = point.leaves()
    for name in SCORED:
        leaves[name].detach().add_(point.directions[name])
    return torch.equal(call(function, leaves, point.seed).detach(), output)


def _with_frozen_inputs(function: Function, point: Point) -> dict[Route, Derivatives]:
    """The routes on which one input alone requires grad.

    A forward or a first differentiation that raises there is loud enough: an energy model, which differentiates
    inside its forward, cannot do without an input that requires grad.
    """
    found: dict[Route, Derivatives] = {}
    for route in frozen_routes(point.inputs):
        try:
            found[route] = differentiate(function, point, route)
        except Exception:  # whatever the forward makes of the frozen input
            continue
    return {route: d for route, d in found.items() if d.failure is None or d.failure.order == 2}


def _is_same(cpu_twin: Function | None, function: Function, point: Point, output: Tensor) -> bool:
    """Whether a function that is run on the CPU computes what it does on a GPU, at a point and at another."""
    if cpu_twin is None:
        return False
    moved = {n: t.detach() + MOVED * point.directions[n].to(t.dtype) for n, t in point.leaves().items()}
    try:
        if relative_error(output, call(cpu_twin, point.leaves(), point.seed)) > SAME:
            return False
        return relative_error(*(call(f, moved, point.seed) for f in (function, cpu_twin))) <= SAME
    except Exception:  # code for a GPU, asked to run on a CPU
        return False


def _oracle(
    function: Function,
    point: Point,
    primary: Derivatives,
    references: Sequence[Trusted],
    twin: Function | None,
    dtype: torch.dtype,
    is_slow: Callable[[], bool],
) -> tuple[Oracle, float | None, float]:
    """The oracle, the forward's error against it (None for finite differences) and the tolerance that follows."""
    closest, error = closest_reference(primary.output, point.inputs, references, point.seed)
    if closest is not None and error <= AGREEMENT[dtype]:
        precision = effective_dtype(primary.output, dtype, error)
        return trusted(closest.function, point, closest.name), error, TOLERANCES[precision]
    if twin is not None and relative_error(primary.output, call(twin, point.leaves(), point.seed)) <= AGREEMENT[dtype]:
        function, primary = twin, differentiate(twin, point, PRIMARY)
    precision = effective_dtype(primary.output, dtype, 0.0)
    coarse = precision in (torch.float16, torch.bfloat16)
    differences = FiniteDifferences(function, point, coarse=coarse, thrifty=is_slow())
    if differences.noise > ROUNDED:
        precision = max(precision, torch.float32, key=TOLERANCES.__getitem__)
    tolerance = TOLERANCES[precision]
    return differences.oracle(primary, tolerance), None, tolerance
