"""Where the true derivatives come from: a trusted function in float64, or finite differences of the target itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from theria.probes.derivatives import PRIMARY, Derivatives, differentiate
from theria.probes.point import Function, Point, call, draw, isolated
from theria.verdicts import COTANGENT

DIRECTIONS = 4
"""Directions along which finite differences observe a gradient or a row: four numbers that all have to agree."""


THRIFTY_DIRECTIONS = 2
"""As many as a function is worth whose every call is slow, as interpreted kernels are."""

CLEAR = 1e-3
"""The relative error of differences from which smaller steps are tried."""

FAINT = 1e-3
"""The part of the largest gradient or block under which another is held to the bounds of one of this size."""

SETTLED = 1e-7
"""The relative gap between steps of the ladder at which two wider ones end the search for a narrower."""

ROUNDED = 1e-6
"""The noise of differences from which a function computes in less than float64."""

HALF_PRECISION_DOUBT = 0.3
"""The relative error to expect of differences between half-precision points: their steps are rounded too."""


@dataclass(frozen=True)
class Observation:
    """What an oracle knows of one gradient or row: some linear functionals of it, and how sure it is of them.

    ``view`` takes a measured tensor to what is comparable with ``value`` (1-D, float64); ``uncertainty`` is the
    Euclidean norm of the oracle's own error, estimated.
    """

    value: Tensor
    view: Callable[[Tensor], Tensor]
    uncertainty: float = 0.0

    @property
    def norm(self) -> float:
        """The Euclidean norm of what is observed."""
        return float(self.value.norm())

    def see(self, measured: Tensor | None) -> Tensor:
        """What is comparable of a measured tensor; without one, zeros."""
        return torch.zeros_like(self.value) if measured is None else self.view(measured)


class PartOfBlock(NamedTuple):
    """What a gradient (``b`` is None) or a row holds for a part of an input, measured and true."""

    a: str
    b: str | None
    measured: Tensor | None
    truth: Observation


@dataclass(frozen=True)
class Oracle:
    """The true gradients g_a and rows ∂⟨u_a, g_a⟩/∂b at a point, by name."""

    name: str
    gradients: Mapping[str, Observation]
    rows: Mapping[tuple[str, str], Observation]
    examine_parts: Callable[[], Iterable[PartOfBlock]] = tuple
    """What to look at beside, of inputs that are made of parts."""


def flat(tensor: Tensor) -> Tensor:
    """The tensor as one float64 vector."""
    return tensor.detach().to(torch.float64).reshape(-1)


def trusted(function: Function, point: Point, name: str) -> Oracle:
    """The oracle that differentiates a trusted function in float64 by autograd.

    Raises:
        RuntimeError: if the function cannot be differentiated twice.
    """
    truth = differentiate(function, point, PRIMARY, torch.float64)
    if truth.failure:
        raise RuntimeError(f"the oracle {name} cannot be differentiated twice: {truth.failure.message}")
    shapes = {**point.inputs, COTANGENT: point.cotangent}
    gradients = {a: _whole(truth.gradients.get(a), tensor) for a, tensor in point.inputs.items()}
    rows = {(a, b): _whole(truth.rows.get((a, b)), tensor) for a in point.inputs for b, tensor in shapes.items()}
    return Oracle(name, gradients, rows)


def _whole(value: Tensor | None, like: Tensor) -> Observation:
    return Observation(
        torch.zeros(like.numel(), dtype=torch.float64, device=like.device) if value is None else flat(value), flat
    )


class FiniteDifferences:
    """Central differences of the target's own forward, Richardson-extrapolated, with a step found from its noise.

    A second difference with step h has an error of about h² c + η/h², η being the rounding noise of the forward, which
    is not known: some targets compute in float32 inside a float64 call. So one second derivative is taken with each
    step of a ladder, and the step at which neighbours agree best is used for all.

    All inputs are moved at once first: what autograd gave for each then has to add up to the difference. Errors along
    random directions do not cancel, so a sum that is right vouches for its parts. One by one they are moved only where
    the sum is wrong, or too coarse for one of them.
    """

    LADDER = tuple(0.3 * 2.0**-k for k in range(20))

    def __init__(self, function: Function, point: Point, *, coarse: bool = False, thrifty: bool = False) -> None:
        """Evaluate the ladder: twenty to forty calls of the function, or a dozen where it is slow (``thrifty``).

        ``coarse``: the function computes in half precision, so small steps do not move it.
        """
        self._function = function
        self._point = point
        self._cache: dict[tuple[tuple[str, int, float], ...], Tensor] = {}
        self._gradients: dict[tuple[tuple[str, int, float], ...], Tensor] = {}
        self._directions = THRIFTY_DIRECTIONS if thrifty else DIRECTIONS
        self._ladder = self.LADDER[1:8] if thrifty else self.LADDER
        self._coarse = coarse
        self._doubt = HALF_PRECISION_DOUBT if coarse else 0.0
        generator = torch.Generator().manual_seed(point.seed + 1)
        self._probes = {
            name: [draw(tuple(t.shape), generator).to(t.device) for _ in range(self._directions)]
            for name, t in point.inputs.items()
        }
        self._along = dict(point.directions)
        self._places = {part: (name, place) for name in point.inputs for part, place in point.parts(name).items()}
        for part, (name, place) in self._places.items():
            self._along[part] = self._along[name][place]
            self._probes[part] = [probe[place] for probe in self._probes[name]]
        self.step, self.noise = self._best_step()
        self._doubt = max(self._doubt, self.noise)

    def oracle(self, measured: Derivatives, tolerance: float) -> Oracle:
        """The oracle by finite differences.

        Where the gradients that autograd gave are right (they agree with first differences of the forward), rows are
        first differences of those gradients, which is as true and far less noisy; where not, second differences of
        the forward.
        """
        clear = self._split_slope(measured, tolerance)
        gradients = {name: clear.get(name) or self._gradient(name) for name in self._point.inputs}
        by_gradient = self._gradients_are_right(measured, gradients, tolerance)
        known = self._split_row(measured, tolerance) if by_gradient else {}
        rows: dict[tuple[str, str], Observation] = {}
        for a in self._point.inputs:
            row = known.get(a) or (self._row_by_gradient(a) if by_gradient else self._row_by_forward(a))
            rows |= {(a, b): block for b, block in row.items()}
        source = "first differences of its gradient" if by_gradient else "second differences of its forward"
        return Oracle(
            f"finite differences ({source})", gradients, rows, lambda: self._examine_parts(measured, tolerance)
        )

    def _examine_parts(self, measured: Derivatives, tolerance: float) -> Iterator[PartOfBlock]:
        """What the sums of all gradients and of all rows do not vouch for in the measure of a part.

        A small tensor among large ones weighs too little in their blocks for its own to be seen to be wrong.
        """
        if not self._places or self.noise > tolerance or measured.failure:
            return
        seen, rest, scale = self._add_gradients(measured)
        for part, (name, place) in self._places.items():
            if self._is_doubtful(seen[part], rest, scale, tolerance):
                gradient = measured.gradients.get(name)
                yield PartOfBlock(name, None, None if gradient is None else gradient[place], self._gradient(part))
        yield from self._examine_rows(measured, tolerance)

    def _examine_rows(self, measured: Derivatives, tolerance: float) -> Iterator[PartOfBlock]:
        rows = measured.rows | measured.part_rows
        seen, rest, scales = self._add_rows(measured)
        for a in [*self._places, *(name for name in self._point.inputs if not self._point.parts(name))]:
            doubtful = []
            for b in rest:
                for place in list(self._point.parts(b).values()) or [slice(None)]:
                    piece = replace(seen[a, b], value=seen[a, b].value[place])
                    if self._is_doubtful(piece, rest[b][place], scales[b == COTANGENT], tolerance):
                        doubtful.append((b, place))
            row = self._row_by_gradient(a) if doubtful else {}
            home, _ = self._places.get(a, (a, None))
            for b, place in doubtful:
                found = rows.get((a, b))
                part = None if found is None else flat(found)[place]
                yield PartOfBlock(home, b, part, replace(row[b], value=row[b].value[place]))

    def _is_doubtful(self, part: Observation, rest: Tensor, scale: float, tolerance: float) -> bool:
        """Whether a part is worth being moved alone: the sum is wrong by its measure, or not clear for its kinks.

        What rounding hides it hides there too.
        """
        if self.noise > ROUNDED:
            return not _is_right(part, rest, scale, tolerance)
        return not _is_clear(part, rest, scale, tolerance)

    def _gradients_are_right(self, measured: Derivatives, truth: Mapping[str, Observation], tolerance: float) -> bool:
        scale = max((o.norm for o in truth.values()), default=0.0)
        rests = {name: o.see(measured.gradients.get(name)) - o.value for name, o in truth.items()}
        return all(_is_right(o, rests[name], scale, tolerance) for name, o in truth.items())

    def _output(self, *shifts: tuple[str, int, float]) -> Tensor:
        """f at the point moved by step·direction for each (input or part, direction, step).

        Direction −1 is the point's u.
        """
        if shifts not in self._cache:
            arguments = self._moved(shifts)
            self._cache[shifts] = flat(call(self._function, arguments, self._point.seed))
        return self._cache[shifts]

    def _moved(self, shifts: tuple[tuple[str, int, float], ...]) -> dict[str, Tensor]:
        leaves = self._point.leaves()
        for name, index, step in shifts:
            direction = self._along[name] if index < 0 else self._probes[name][index]
            home, place = self._places.get(name, (name, ...))
            leaf = leaves[home].detach()[place]
            leaf.copy_(leaf.to(torch.float64) + step * direction)
        return leaves

    def _loss(self, *shifts: tuple[str, int, float]) -> float:
        return float(flat(self._point.cotangent) @ self._output(*shifts))

    def _mixed(self, a: str, i: int, b: str, j: int, h: float) -> float:
        """The second derivative of L along direction i of a and direction j of b, with error O(h²)."""
        corners = ((1, 1), (1, -1), (-1, 1), (-1, -1))
        return sum(s * t * self._loss((a, i, s * h), (b, j, t * h)) for s, t in corners) / (4 * h * h)

    def _best_step(self) -> tuple[float, float]:
        """The step of the ladder whose extrapolated estimates agree best with the next, and how well they do.

        How well: their difference over the curvature or the slope, whichever is larger.
        """
        names = list(self._point.inputs)

        def curvature(h: float) -> float:
            plus = self._loss(*((n, -1, h) for n in names))
            minus = self._loss(*((n, -1, -h) for n in names))
            return (plus - 2 * self._loss() + minus) / (h * h)

        raw: list[float] = []
        extrapolated: list[float] = []
        gaps: list[float] = []
        for h in self._ladder:
            raw.append(curvature(h))
            extrapolated = [(4 * fine - coarse) / 3 for coarse, fine in pairwise(raw)]
            gaps = [abs(x - y) for x, y in pairwise(extrapolated)]
            # Rounding widens the gaps below the best step: what comes after two wider ones is no narrower.
            if len(gaps) > 2 and min(gaps[-2:]) > min(gaps[:-2]) and min(gaps) <= SETTLED * abs(extrapolated[-1]):
                break
        # Below the rounding of half precision a function does not move at all: such steps agree, on nothing.
        moved = [any(pair) or not self._coarse for pair in pairwise(extrapolated)]
        finite = [g if math.isfinite(g) and moves else math.inf for g, moves in zip(gaps, moved, strict=True)]
        best = min(range(len(finite)), key=finite.__getitem__)
        step = self._ladder[best + 1]
        slope = self._loss(*((n, -1, step) for n in names)) - self._loss(*((n, -1, -step) for n in names))
        # A function that is all but linear has no curvature for its noise to be measured by.
        size = max(abs(extrapolated[best]), abs(slope) / (2 * step), 1e-300)
        return step, finite[best] / size

    def _refined(
        self, estimate: Callable[[float], Tensor], value_at: Callable[[float], Tensor], smaller_steps: int = 5
    ) -> tuple[Tensor, float]:
        """The extrapolation of first differences of a value, with smaller steps where larger ones straddle a kink.

        Where many ReLUs follow each other, every step of the size that suits second differences crosses one. First
        differences bear smaller ones; where rounding is too large for them they disagree, and none is taken.
        """
        (best, error), step = self._extrapolated(estimate), self.step
        for k in range(1, 1 if self._coarse else 1 + smaller_steps):
            if error <= CLEAR * float(best.norm()):
                break
            smaller, removed = self._extrapolated(estimate, self.step / 4**k)
            if removed < error and float(smaller.norm()) > 0:
                best, error, step = smaller, removed, self.step / 4**k
        return best, max(error, 0.0 if self._coarse else self._bend(value_at, step))

    @staticmethod
    def _bend(value: Callable[[float], Tensor], h: float) -> float:
        """Half the jump of a slope at the point itself, which central differences over any distance average out.

        The slopes to either side differ by h·f″ where f is smooth, and by the jump at a kink, whatever h is.
        """

        def asymmetry(step: float) -> Tensor:
            return (value(step) - 2 * value(0.0) + value(-step)) / step

        return float((2 * asymmetry(h) - asymmetry(2 * h)).norm()) / 2

    def _extrapolated(self, estimate: Callable[[float], Tensor], step: float | None = None) -> tuple[Tensor, float]:
        """Richardson extrapolation of an O(h²) estimate, and the size of the term that it removed, as its error."""
        step = step or self.step
        coarse, middle, fine = (estimate(h) for h in (4 * step, 2 * step, step))
        value = (4 * fine - middle) / 3
        removed = float((value - (4 * middle - coarse) / 3).norm())
        return value, max(removed, self._doubt * float(value.norm()))

    def _split_slope(self, measured: Derivatives, tolerance: float) -> dict[str, Observation]:
        """The gradients that the slopes along all inputs at once are clear about."""
        if self.noise > tolerance:  # of a sum there is no more to be seen than of its parts
            return {}
        seen, rest, scale = self._add_gradients(measured)
        found = {name: replace(seen[name], value=seen[name].value + rest) for name in self._point.inputs}
        return {name: o for name, o in found.items() if _is_clear(o, rest, scale, tolerance)}

    def _add_gradients(self, measured: Derivatives) -> tuple[dict[str, Observation], Tensor, float]:
        """What is seen of the gradient of each input and part, with the doubt of the slopes along all inputs at once.

        And what the inputs together leave of these slopes, and the largest norm among them.
        """
        names = list(self._point.inputs)
        total, doubt = self._slopes(*names, smaller_steps=0)
        sums = {name: self._projected(name, total, doubt) for name in (*names, *self._places)}
        gradients = {name: measured.gradients.get(name) for name in names}
        for part, (name, place) in self._places.items():
            gradient = gradients[name]
            gradients[part] = None if gradient is None else gradient[place]
        seen = {name: replace(o, value=o.see(gradients[name])) for name, o in sums.items()}
        rest = sums[names[0]].value - torch.stack([seen[name].value for name in names]).sum(0)
        return seen, rest, max(seen[name].norm for name in names)

    def _gradient(self, name: str) -> Observation:
        return self._projected(name, *self._slopes(name))

    def _slopes(self, *names: str, smaller_steps: int = 5) -> tuple[Tensor, float]:
        """The slopes of the loss along each probe of some inputs, which are moved together."""

        def losses(h: float) -> Tensor:
            moved = [self._loss(*((name, i, h) for name in names)) for i in range(self._directions)]
            return torch.tensor(moved, dtype=torch.float64)

        return self._refined(lambda h: (losses(h) - losses(-h)) / (2 * h), losses, smaller_steps)

    def _row_by_forward(self, a: str) -> dict[str, Observation]:
        row = {}
        for b in self._point.inputs:

            def estimate(h: float, b: str = b) -> Tensor:
                values = [self._mixed(a, -1, b, j, h) for j in range(self._directions)]
                return torch.tensor(values, dtype=torch.float64)

            row[b] = self._projected(b, *self._extrapolated(estimate))
        return row | {COTANGENT: self._cotangent_block(a)}

    def _split_row(self, measured: Derivatives, tolerance: float) -> dict[str, dict[str, Observation]]:
        """By input, the rows that the sum of all rows is clear about, block by block."""
        if self.noise > tolerance or measured.failure:
            return {}
        seen, rest, scales = self._add_rows(measured)
        known = {}
        for a in self._point.inputs:
            row = {b: replace(seen[a, b], value=seen[a, b].value + rest[b]) for b in rest}
            if all(_is_clear(o, rest[b], scales[b == COTANGENT], tolerance) for b, o in row.items()):
                known[a] = row
        return known

    def _add_rows(
        self, measured: Derivatives
    ) -> tuple[dict[tuple[str, str], Observation], dict[str, Tensor], dict[bool, float]]:
        """What is seen of each block of each input and part, with the doubt of the sum of all rows.

        And what the rows of the inputs leave of that sum, by what is differentiated in; and the largest norms among
        Hessian blocks (False) and cotangent blocks (True).
        """
        names = list(self._point.inputs)
        rows = measured.rows | measured.part_rows
        total = self._row_by_gradient(*names, smaller_steps=0)
        seen = {
            (a, b): replace(truth, value=truth.see(rows.get((a, b))))
            for a in (*names, *self._places)
            for b, truth in total.items()
        }
        rest = {b: truth.value - torch.stack([seen[a, b].value for a in names]).sum(0) for b, truth in total.items()}
        scales = {
            kind: max(seen[a, b].norm for a in names for b in total if (b == COTANGENT) == kind)
            for kind in (False, True)
        }
        return seen, rest, scales

    def _row_by_gradient(self, *names: str, smaller_steps: int = 5) -> dict[str, Observation]:
        """The row of an input, or the sum of those of some, by what it is differentiated in."""

        def gradient(h: float) -> Tensor:
            return self._gradient_at(*((name, -1, h) for name in names))

        value, uncertainty = self._refined(lambda h: (gradient(h) - gradient(-h)) / (2 * h), gradient, smaller_steps)
        parts = torch.split(value, [t.numel() for t in self._point.inputs.values()])
        row = {b: Observation(part, flat, uncertainty) for b, part in zip(self._point.inputs, parts, strict=True)}
        return row | {COTANGENT: self._cotangent_block(*names, smaller_steps=smaller_steps)}

    def _gradient_at(self, *shifts: tuple[str, int, float]) -> Tensor:
        """All first-order gradients of L at the moved point, as autograd gives them, in one float64 vector."""
        if shifts not in self._gradients:
            self._gradients[shifts] = self._differentiate_at(shifts)
        return self._gradients[shifts]

    def _differentiate_at(self, shifts: tuple[tuple[str, int, float], ...]) -> Tensor:
        leaves = self._moved(shifts)
        output = call(self._function, leaves, self._point.seed)
        self._cache[shifts] = flat(output)
        with isolated(self._point.seed):
            loss = (self._point.cotangent * output.to(torch.float64)).sum()
            gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        return torch.cat(
            [flat(torch.zeros_like(x) if g is None else g) for x, g in zip(leaves.values(), gradients, strict=True)]
        )

    def _cotangent_block(self, *names: str, smaller_steps: int = 5) -> Observation:
        def output(h: float) -> Tensor:
            return self._output(*((name, -1, h) for name in names))

        value, uncertainty = self._refined(lambda h: (output(h) - output(-h)) / (2 * h), output, smaller_steps)
        return Observation(value, flat, uncertainty)

    def _projected(self, name: str, value: Tensor, uncertainty: float) -> Observation:
        """Numbers along an input's probes, scaled so that their norm estimates that of the whole vector."""
        probes = self._probes[name]
        matrix = torch.stack([flat(p) for p in probes]) / math.sqrt(len(probes))
        return Observation(
            (value / math.sqrt(len(probes))).to(matrix.device),
            lambda t: matrix @ flat(t),
            uncertainty / math.sqrt(len(probes)),
        )


def _is_right(part: Observation, rest: Tensor, scale: float, tolerance: float) -> bool:
    """Whether a sum is right by the measure of one of its parts; ``rest`` is what the parts leave of it.

    ``scale`` is the largest norm among the parts.
    """
    return float(rest.norm()) <= tolerance * max(part.norm, FAINT * scale) + 3 * part.uncertainty


def _is_clear(part: Observation, rest: Tensor, scale: float, tolerance: float) -> bool:
    """Whether it is right, and sure."""
    sure = 3 * part.uncertainty <= CLEAR * max(part.norm, FAINT * scale)
    return sure and _is_right(part, rest, scale, tolerance)
