"""The second derivatives of a call along random directions: what autograd gives beside differences of gradients.

L = ⟨W, f⟩ with random W over every floating-point output. A random direction u moves all inputs and parameters x, each
scaled by the size of its own numbers. Autograd's Hessian-vector product H u (Pearlmutter, "Fast exact multiplication by
the Hessian", 1994) is held against (∇L(x + hu) − ∇L(x − hu)) / 2h, and ⟨∇L, u⟩ against (L(x + hu) − L(x − hu)) / 2h:
two gradients a direction and step, whatever the size of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from theria.diagnosis.captured_call import find_tensors
from theria.probes.derivatives import first_line, holds_error_node
from theria.probes.foreign_errors import speaks_of_the_machine
from theria.probes.point import draw, isolated
from theria.probes.rounding import TOLERANCES
from theria.verdicts import Ground, Reason, Verdict, finite

STEPS = {torch.float64: (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)}
COARSE_STEPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)
"""Steps of the differences, in units of the size of the numbers that are moved, by what computes."""

DIRECTIONS = 2
"""Random directions along which a Hessian is observed."""

TINY_STEP, SCATTER = 1e-8, 1e-12
"""A step along which L is straight to float64's rounding, and the relative scatter beyond that rounding."""

ENOUGH = 0.1
"""Differences that are surer than this fraction of the tolerance need no smaller step."""

NEGLIGIBLE = 1e-6
"""A part below this fraction of the largest carries no signal; a measured one below it beside its truth is missing."""

DOUBTFUL = 0.1
"""Differences that may be off by more than this fraction of what they judge judge nothing."""


@dataclass(frozen=True)
class CallMeasurement:
    """What was measured of a call.

    Attributes:
        verdict: as `theria.probe` has it.
        reason: what it rests on.
        lost: ‖H u − truth‖ / ‖truth‖, over all variables; 1 where the second differentiation raises or gives nothing;
            None where it is not known.
    """

    verdict: Verdict
    reason: Reason
    lost: float | None = None


Loss = Callable[[Any], Tensor]


class RepeatableCall(Protocol):
    """A call that can be made again with other inputs: of a module, or of nothing that has parameters."""

    module: nn.Module
    inputs: dict[str, Tensor]

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """Make the call again, with these in the place of ``inputs``."""


class DirectionalProbe:
    """A captured call, with its variables: the floating-point inputs and the parameters that require grad."""

    def __init__(
        self, call: RepeatableCall, seed: int, loss: Loss | None = None, exact: DirectionalProbe | None = None
    ) -> None:
        """Draw the directions.

        Args:
            call: what is measured.
            seed: of directions, cotangents, and of what the module draws.
            loss: L of the output, instead of ⟨W, output⟩.
            exact: the same call in float64, whose differences are the oracle where both give the same L.
        """
        self._call, self._seed, self._loss, self._exact = call, seed, loss, exact
        self._inputs = {name: tensor.clone().requires_grad_() for name, tensor in call.inputs.items()}
        parameters = {
            name: p for name, p in call.module.named_parameters() if p.requires_grad and p.is_floating_point()
        }
        self.value = self._magnitude = math.nan
        self._marked = False
        self.variables: dict[str, Tensor] = {**self._inputs, **parameters}
        self._buffers = [(buffer, buffer.detach().clone()) for buffer in call.module.buffers()]
        self._sizes = _measure_sizes(self.variables)
        generator = torch.Generator().manual_seed(seed)
        self._directions = [
            {name: self._draw(variable, generator) * self._sizes[name] for name, variable in self.variables.items()}
            for _ in range(DIRECTIONS)
        ]
        self._hold_padding(call.module)

    def _hold_padding(self, module: nn.Module) -> None:
        """Leave the rows of padding where they are: their embedding is given no gradient, by its author's word."""
        names = {id(variable): name for name, variable in self.variables.items()}
        for part in module.modules():
            padding = getattr(part, "padding_idx", None)
            name = names.get(id(getattr(part, "weight", None)))
            if isinstance(padding, int) and name is not None:
                for direction in self._directions:
                    direction[name][padding] = 0.0

    @staticmethod
    def _draw(like: Tensor, generator: torch.Generator) -> Tensor:
        return draw(tuple(like.shape), generator).to(like.device, like.dtype)

    def measure(self) -> CallMeasurement:
        """Measure the call; where its forward raises, nothing is known."""
        try:
            return self._measure()
        except Exception as error:
            told = {"kind": type(error).__name__, "message": first_line(error)}
            return CallMeasurement(Verdict.INCONCLUSIVE, Reason(Ground.RAISED, told))

    def _measure(self) -> CallMeasurement:
        if not self.variables:
            return CallMeasurement(Verdict.INCONCLUSIVE, Reason(Ground.NO_DEPENDENCE, {"inputs": []}))
        value = self._compute_loss()
        again = float(self._compute_loss().detach())
        self.value = float(value.detach())
        if not math.isfinite(self.value):
            return CallMeasurement(Verdict.INCONCLUSIVE, Reason(Ground.FORWARD_NOT_FINITE))
        if abs(self.value - again) > self._tolerance * max(abs(again), 1e-12):
            return CallMeasurement(Verdict.INCONCLUSIVE, Reason(Ground.FORWARD_NOT_REPEATABLE))
        if not value.requires_grad:
            return self._judge_outside_graph()
        gradients, products, failure = self._differentiate(value)
        if failure is not None:
            return failure
        return self._compare(gradients, products)

    @cached_property
    def _tolerance(self) -> float:
        """By the precision of the call, which may be lower than that of its tensors."""
        tolerance = max(TOLERANCES.get(variable.dtype, 0.1) for variable in self.variables.values())
        rough = tolerance < TOLERANCES[torch.float32] and self._is_rough()
        return TOLERANCES[torch.float32] if rough else tolerance

    def _is_rough(self) -> bool:
        """Whether L, along a line so short that it is straight, scatters by more than float64 does, or stands still."""
        u, values = self._directions[0], []
        for step in (-TINY_STEP, 0.0, TINY_STEP):
            with self._moved(u, step):
                values.append(float(self._compute_loss().detach()))
        bend = abs(values[0] - 2 * values[1] + values[2])
        return bend > SCATTER * self._magnitude or values[0] == values[2]

    @cached_property
    def _steps(self) -> tuple[float, ...]:
        return COARSE_STEPS if self._tolerance > TOLERANCES[torch.float64] else STEPS[torch.float64]

    @cached_property
    def _oracle(self) -> DirectionalProbe:
        """Whose differences tell the truth: those in float64, if they are of the same function."""
        exact = self._exact
        if exact is None or list(exact.variables) != list(self.variables):
            return self
        return exact if abs(exact.value - self.value) <= self._tolerance * abs(exact.value) else self

    def _compute_loss(self) -> Tensor:
        """L at the present point, with the random numbers that are always drawn, and the buffers as they were."""
        for buffer, before in self._buffers:
            buffer.data.copy_(before)  # by .data: a graph that holds the buffer must not take it for a change
        with isolated(self._seed):
            output = self._call.run(list(self._inputs.values()))
        if self._loss is not None:
            value = self._loss(output)
            self._magnitude = abs(float(value.detach()))
            return value
        found = [t for _, t in find_tensors(output) if t.is_floating_point()]
        if not found:
            raise TypeError("it returns no floating-point tensor")
        generator = torch.Generator().manual_seed(self._seed + 1)
        terms = [(self._draw(t, generator) * _finite_part(t)).double() for t in found]
        self._magnitude = sum(float(term.detach().abs().sum()) for term in terms)
        return torch.stack([term.sum() for term in terms]).sum()

    def _judge_outside_graph(self) -> CallMeasurement:
        if all(self._slope(u, step) == 0 for u in self._directions for step in self._steps[:2]):
            return CallMeasurement(Verdict.INCONCLUSIVE, Reason(Ground.NO_DEPENDENCE, {"inputs": []}))
        return CallMeasurement(Verdict.HARD_STRUCTURAL, Reason(Ground.OUTPUT_OUTSIDE_GRAPH), 1.0)

    def _differentiate(
        self, value: Tensor
    ) -> tuple[dict[str, Tensor | None], list[dict[str, Tensor | None]], CallMeasurement | None]:
        """The gradients, H u for each direction, and a verdict where one of them raises."""
        leaves = list(self.variables.values())
        order, products = 1, []
        try:
            with isolated(self._seed):
                found = torch.autograd.grad(value, leaves, create_graph=True, allow_unused=True)
                order = 2
                self._marked = holds_error_node(found)
                for u in self._directions:
                    products.append(self._multiply(found, u))
        except Exception as error:
            return {}, [], self._judge_raise(order, error)
        named = dict(zip(self.variables, found, strict=True))
        return {name: None if g is None else g.detach() for name, g in named.items()}, products, None

    def _multiply(self, gradients: Sequence[Tensor | None], u: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
        terms = [
            (u[name] * g).sum().double()
            for name, g in zip(self.variables, gradients, strict=True)
            if g is not None and g.requires_grad
        ]
        if not terms:
            return dict.fromkeys(self.variables)
        leaves = list(self.variables.values())
        rows = torch.autograd.grad(torch.stack(terms).sum(), leaves, retain_graph=True, allow_unused=True)
        return dict(zip(self.variables, rows, strict=True))

    def _judge_raise(self, order: int, error: Exception) -> CallMeasurement:
        if speaks_of_the_machine(type(error).__name__, first_line(error)):
            raise error
        if order == 2:
            return self._tell_raise(2, error, once=False)
        try:
            self._compute_gradients()
        except Exception as first:
            if speaks_of_the_machine(type(first).__name__, first_line(first)):
                raise
            why = Reason(Ground.NEVER_DIFFERENTIABLE, {"message": first_line(error)})
            return CallMeasurement(Verdict.HARD_STRUCTURAL, why, 1.0)
        return self._tell_raise(1, error, once=True)

    @staticmethod
    def _tell_raise(order: int, error: Exception | None, *, once: bool) -> CallMeasurement:
        message = first_line(error) if error else None
        told = {"order": order, "once": once, "routes": [], "message": message, "lost": None, "silent": []}
        return CallMeasurement(Verdict.FIRST_ORDER_ONLY, Reason(Ground.DIFFERENTIATION_RAISES, told), 1.0)

    def _compute_gradients(self) -> dict[str, Tensor]:
        """The first gradients at the present point, zero where autograd knows of no path."""
        value = self._compute_loss()
        if not value.requires_grad:
            return {name: torch.zeros_like(v) for name, v in self.variables.items()}
        with isolated(self._seed):
            found = torch.autograd.grad(value, list(self.variables.values()), allow_unused=True)
        return {
            name: torch.zeros_like(v) if g is None else g.detach()
            for (name, v), g in zip(self.variables.items(), found, strict=True)
        }

    @contextmanager
    def _moved(self, u: Mapping[str, Tensor], step: float) -> Iterator[None]:
        """The point moved along a direction."""
        # By .data: a graph that was recorded before must not take this for a change of what it saved.
        kept = {name: variable.data.clone() for name, variable in self.variables.items() if name in u}
        for name, variable in self.variables.items():
            if name in u:
                variable.data.add_(u[name], alpha=step)
        try:
            yield
        finally:
            for name, value in kept.items():
                self.variables[name].data.copy_(value)

    def _slope(self, u: Mapping[str, Tensor], step: float) -> float:
        values = []
        for signed in (step, -step):
            with self._moved(u, signed):
                values.append(float(self._compute_loss().detach()))
        return (values[0] - values[1]) / (2 * step)

    def _estimate_slope(self, names: Iterable[str], direction: int) -> tuple[float, float]:
        """⟨∇L, u⟩ by differences, along some variables of a direction, and how far it may be off."""
        u = {name: self._directions[direction][name] for name in names}
        estimates: list[float] = []
        best = (math.nan, math.inf)
        for step in self._steps:
            estimates.append(self._slope(u, step))
            if len(estimates) > 1:
                now = estimates[-1], abs(estimates[-1] - estimates[-2])
                best = min(best, now, key=lambda pair: pair[1] / (abs(pair[0]) or 1.0))
            if best[1] <= ENOUGH * self._tolerance * abs(best[0]):
                break
        return best

    @cache  # noqa: B019 - the probe lives as long as one measurement
    def estimate_product(self, direction: int) -> tuple[dict[str, Tensor], float]:
        """H u by differences of the gradients, in units of the variables' sizes, and how far it may be off."""
        u = self._directions[direction]
        best: tuple[dict[str, Tensor], float] = {}, math.inf
        before: dict[str, Tensor] = {}
        for step in self._steps:
            ends = []
            for signed in (step, -step):
                with self._moved(u, signed):
                    ends.append(self._compute_gradients())
            now = {n: (ends[0][n] - ends[1][n]).double() * (self._sizes[n] / (2 * step)) for n in self.variables}
            if before:
                doubt, scale = _norm({n: now[n] - before[n] for n in now}), _norm(now)
                # beside what is found: steps so long that nothing is left to see agree well with one another
                best = min(best, (now, doubt), key=lambda pair: pair[1] / (_norm(pair[0]) or 1.0))
                if doubt <= ENOUGH * self._tolerance * scale:
                    break
            before = now
        return best

    def _compare(
        self, gradients: Mapping[str, Tensor | None], products: Sequence[Mapping[str, Tensor | None]]
    ) -> CallMeasurement:
        wrong_slope = self._find_wrong_gradient(gradients)
        if wrong_slope is not None:
            return wrong_slope
        lost, truth_size, doubtful = 0.0, 0.0, False
        missing, wrong, signal = set[str](), set[str](), set[str]()
        for direction, product in enumerate(products):
            truth, doubt = self._oracle.estimate_product(direction)
            scale = _norm(truth)
            if 3 * doubt > DOUBTFUL * scale:
                doubtful = True
                continue
            for name, exact in truth.items():
                row = product[name]
                seen = torch.zeros_like(exact) if row is None else row.double() * self._sizes[name]
                size, error = float(exact.norm()), float((seen - exact).norm())
                lost += error**2
                truth_size += size**2
                if size > NEGLIGIBLE * scale + 3 * doubt:
                    signal.add(name)
                if error > self._tolerance * max(size, NEGLIGIBLE * scale) + 3 * doubt:
                    nothing = float(seen.norm()) <= NEGLIGIBLE * size
                    (missing if nothing else wrong).add(name)
        share = math.sqrt(lost / truth_size) if truth_size else 0.0
        if (missing or wrong) and self._marked:  # autograd.grad prunes the node that .backward() would raise at
            return self._tell_raise(2, None, once=False)
        if missing or wrong:
            collapsed = not wrong and missing >= signal
            told = {"missing": sorted(missing), "wrong": sorted(wrong), "share": finite(share)}
            verdict = Verdict.SILENT_COLLAPSE if collapsed else Verdict.SILENT_CORRUPTION
            return CallMeasurement(verdict, Reason(Ground.CURVATURE_LOST, told), share)
        if doubtful:
            return CallMeasurement(Verdict.INCONCLUSIVE, Reason(Ground.ORACLE_DOUBTFUL, {"judged": ["H u"]}))
        return CallMeasurement(Verdict.SAFE, Reason(Ground.ALL_AGREE, {"largest_error": finite(share)}), share)

    def _find_wrong_gradient(self, gradients: Mapping[str, Tensor | None]) -> CallMeasurement | None:
        unused = [name for name, gradient in gradients.items() if gradient is None]
        if unused:
            slope, doubt = self._oracle._estimate_slope(unused, 0)
            whole, _ = self._oracle._estimate_slope(gradients, 0)
            if abs(slope) > self._tolerance * abs(whole) + 3 * doubt:
                told = {"inputs": sorted(unused), "norm": finite(abs(slope))}
                return CallMeasurement(Verdict.HARD_STRUCTURAL, Reason(Ground.INPUT_UNUSED, told))
        for direction, u in enumerate(self._directions):
            slope, doubt = self._oracle._estimate_slope(gradients, direction)
            terms = [float((u[name] * g).sum().double()) for name, g in gradients.items() if g is not None]
            scale = max([abs(slope), *map(abs, terms)])
            error = abs(sum(terms) - slope)
            if error > self._tolerance * scale + 3 * doubt:
                told = {"error": finite(error / scale)}
                return CallMeasurement(Verdict.SILENT_CORRUPTION, Reason(Ground.GRADIENT_WRONG, told))
        return None


def _finite_part(tensor: Tensor) -> Tensor:
    """A tensor with zeros for what is infinite, as a returned mask may be."""
    finite_numbers = torch.isfinite(tensor)
    return tensor if bool(finite_numbers.all()) else torch.where(finite_numbers, tensor, torch.zeros_like(tensor))


def _measure_sizes(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """The root mean square of each tensor's numbers; where all are zero, the median of the others."""
    sizes = {name: float(t.detach().double().square().mean().sqrt()) for name, t in tensors.items()}
    known = sorted(size for size in sizes.values() if size)
    usual = known[len(known) // 2] if known else 1.0
    return {name: size or usual for name, size in sizes.items()}


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(t.norm()) ** 2 for t in tensors.values()))
