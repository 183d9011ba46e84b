"""Look again before a target is blamed: at other points, and with contiguous operands.

Routing and rounding hide a wrong gradient at most points, and fake one at a jump: find points where a first gradient is
wrong, and points where the forward is discontinuous. Near kinks differences judge nothing: go elsewhere.

PyTorch has bugs of its own: in torch 2.13 the gradient of some convolutions of batch-normed values is wrong for a batch
of one. What an operator computes does not depend on strides. So where a first derivative is wrong in a graph that
PyTorch's own operators made, give them contiguous operands: what is right then is no fault of the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils._python_dispatch import TorchDispatchMode

from theria.probes.derivatives import graph_nodes
from theria.probes.point import call, copy_strided, draw, isolated
from theria.probes.report import Report
from theria.verdicts import Verdict
from theria_lint.reasons import Ground, Reason, ReasonCode
from theria_lint.worker.find_call.call_strategy import RECORDED, BoundCall, TrialSpec
from theria_lint.worker.find_call.run_trial import WorkingCall

POINTS = 6
"""How many points are looked at: each costs a backward and a few forwards."""

CLEARER_POINTS = 2
"""At how many further points a call is measured where differences were in doubt: each costs a probe."""

_STEPS = (1e-4, 1e-5)
_REACH = (1e-3, 1e-4)
"""Over which distances differences are held against each other."""

_DIRECTIONS = 4
"""Along how many directions: a jump that routing makes may lie in some only."""

_BEND = 0.05
"""The relative difference between those up to which what lies between them is smooth, float32 arithmetic included."""

_NEAR = (1e-8, -1e-8, 3e-9)
"""How near to a point jumps are looked for: nearer than any difference that the probe takes."""

_JUMP = 1e-5
"""The relative size of a step so near that is none of slope, nor of rounding."""

_CONTRADICTION = 1e-2
"""The relative difference between a gradient and every difference of the forward at which a closer look is due."""

_FOREIGN = "CppNode"
"""Part of the name of a node that a C++ extension made."""


def find_gradient_mismatch(working_call: WorkingCall, spec: TrialSpec) -> TrialSpec:
    """The spec at the first of some points where differences of the forward contradict the gradient; else as it is.

    That is no verdict: the point is measured like any other.
    """
    for number in range(POINTS if spec.dtype is torch.float64 else 0):
        moved = replace(spec, seed=spec.seed + number)
        with suppress(Exception):  # the target refuses the spec: the probe says so
            if _is_gradient_contradicted(working_call.make_call(moved), moved.seed):
                return moved
    return spec


def _is_gradient_contradicted(made: BoundCall, seed: int) -> bool:
    generator = torch.Generator().manual_seed(seed)
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in made.inputs.items()}
    directions = {name: draw(tuple(t.shape), generator).to(t) for name, t in leaves.items()}
    output = call(made.compute_output, leaves, seed)
    cotangent = draw(tuple(output.shape), generator).to(output)
    with isolated(seed):
        found = torch.autograd.grad((cotangent * output).sum(), list(leaves.values()), allow_unused=True)
    gradients = {name: g for name, g in zip(leaves, found, strict=True) if g is not None}
    slope = sum(float((g * directions[name]).sum()) for name, g in gradients.items())
    size = max(abs(slope), max((float(g.norm()) for g in gradients.values()), default=0.0))

    def loss(step: float) -> float:
        return float((cotangent * call(made.compute_output, _move_inputs(made, directions, step), seed)).sum().detach())

    return all(abs((loss(h) - loss(-h)) / (2 * h) - slope) > _CONTRADICTION * size for h in _STEPS)


def is_discontinuous(made: BoundCall, seed: int, *, order: int = 1) -> bool:
    """Whether the forward, or its gradient, is another one however near the point, as where routing breaks ties.

    Or so near that differences are led astray: of the forward (``order`` 1), or of its gradient too (2).
    """
    return _is_discontinuous_nearby(made, seed) or not _has_consistent_slope(made, seed, order)


def _has_consistent_slope(made: BoundCall, seed: int, order: int) -> bool:
    """Whether differences along some directions are the same over any distance."""
    generator = torch.Generator().manual_seed(seed + 2)
    for _ in range(_DIRECTIONS):
        directions = {name: draw(tuple(t.shape), generator).to(t) for name, t in made.inputs.items()}
        far, near = (_compute_slopes(made, seed, directions, step, order) for step in _REACH)
        if any(float((a - b).norm()) > _BEND * float(b.norm()) for a, b in zip(far, near, strict=True)):
            return False
    return True


def _compute_slopes(
    made: BoundCall, seed: int, directions: Mapping[str, Tensor], step: float, order: int
) -> list[Tensor]:
    ends = [_compute_output_and_gradients(made, seed, directions, sign * step) for sign in (1, -1)]
    found = [(one - other) / (2 * step) for one, other in zip(*ends, strict=True)]
    return found if order > 1 else found[:1]


def _is_discontinuous_nearby(made: BoundCall, seed: int) -> bool:
    generator = torch.Generator().manual_seed(seed + 1)
    directions = {name: draw(tuple(t.shape), generator).to(t) for name, t in made.inputs.items()}
    here = _compute_output_and_gradients(made, seed, directions, 0.0)
    return any(
        float((there - value).norm()) > _JUMP * float(value.norm())
        for step in _NEAR
        for there, value in zip(_compute_output_and_gradients(made, seed, directions, step), here, strict=True)
    )


def _compute_output_and_gradients(
    made: BoundCall, seed: int, directions: Mapping[str, Tensor], step: float
) -> list[Tensor]:
    """The output and the gradients of its sum of squares at a moved point."""
    leaves = _move_inputs(made, directions, step)
    output = call(made.compute_output, leaves, seed)
    with isolated(seed):
        found = torch.autograd.grad(output.square().sum(), list(leaves.values()), allow_unused=True)
    return [output.detach(), *(gradient.detach() for gradient in found if gradient is not None)]


def _move_inputs(made: BoundCall, directions: Mapping[str, Tensor], step: float) -> dict[str, Tensor]:
    """The inputs at a moved point."""
    return {n: (t.detach() + step * directions[n]).requires_grad_() for n, t in made.inputs.items()}


def retry_off_discontinuity(
    report: Report, spec: TrialSpec, bound: WorkingCall, measure: Callable[[TrialSpec], Report]
) -> Report:
    """The report or, where a point is blamed at which the forward jumps, that of another point.

    Differences reach over the jump there, and another backend under the target lands on its other side.
    """
    if report.verdict is not Verdict.SILENT_CORRUPTION:
        return report
    order = 1 if any(block.state in ("missing", "wrong") for block in report.gradients.values()) else 2
    for number in range(POINTS if spec.dtype is torch.float64 else 0):
        moved = replace(spec, seed=spec.seed + number)
        if not is_discontinuous(bound.make_call(moved), moved.seed, order=order):
            return measure(moved) if number else report
    why = Reason(ReasonCode.FORWARD_JUMPS)
    return replace(report, verdict=Verdict.INCONCLUSIVE, why=why) if spec.dtype is torch.float64 else report


def retry_off_doubt(
    report: Report, spec: TrialSpec, measure: Callable[[TrialSpec], Report], is_late: Callable[[], bool]
) -> tuple[Report, TrialSpec]:
    """The report on a recorded call or, where differences could not judge it there, on it with other numbers.

    Kinks lie near some points and not near others. What is guessed is measured at several sizes as it is.
    """
    if RECORDED not in spec.choice or not _is_in_doubt(report.why):
        return report, spec
    for number in range(1, CLEARER_POINTS + 1):
        if is_late():
            break
        moved = replace(spec, seed=spec.seed + number * POINTS)
        found = measure(moved)
        if found.verdict is not Verdict.INCONCLUSIVE:
            return found, moved
    return report, spec


def _is_in_doubt(why: Reason | None) -> bool:
    """Whether that is why, of a module's parameters too, nothing is known."""
    if why is not None and why.code is ReasonCode.SAFE_IN_INPUTS:
        why = why.data["reason"]
    return why is not None and why.code is Ground.ORACLE_DOUBTFUL


def retry_contiguous(
    report: Report, made: BoundCall, seed: int, measure: Callable[[], Report]
) -> tuple[Report, list[Reason]]:
    """The report, or where PyTorch is to blame for it what is measured with contiguous operands; and what to tell."""
    silent = report.verdict in (Verdict.SILENT_COLLAPSE, Verdict.SILENT_CORRUPTION)
    wrong = any(block.state in ("missing", "wrong") for block in report.gradients.values())
    if not (silent and wrong and _is_recorded_by_pytorch(made, seed)):
        return report, []
    with _ContiguousOperands():  # type: ignore[no-untyped-call]
        fair = measure()
    note = Reason(ReasonCode.TORCH_BUG, {"configuration": report.configuration})
    return (fair, [note]) if fair.verdict is Verdict.SAFE else (report, [])


def _is_recorded_by_pytorch(made: BoundCall, seed: int) -> bool:
    """Whether every node of the graph is PyTorch's own: code that brings a backward along answers for it."""
    leaves = {name: copy_strided(tensor).requires_grad_() for name, tensor in made.inputs.items()}
    output = call(made.compute_output, leaves, seed)
    foreign = (isinstance(node, BackwardCFunction) or _FOREIGN in node.name() for node in graph_nodes([output]))
    return output.grad_fn is not None and not any(foreign)


class _ContiguousOperands(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives PyTorch's operators contiguous copies of what they read, where they neither alias nor change it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Else the first call would import the compiler, for more than a second, to keep it away from this class."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.namespace == "aten" and not any(value.alias_info for value in func._schema.returns):
            args = tuple(map(_make_contiguous, args))
        return func(*args, **(kwargs or {}))


def _make_contiguous(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.contiguous()
    return [_make_contiguous(part) for part in value] if isinstance(value, list | tuple) else value
