"""Holds the double backward of one case against central differences.

L = ⟨W, f(inputs)⟩; a first gradient is held against central differences of L along random directions u; a block of
second derivatives, ∂⟨u, g_a⟩/∂b by double backward, against central differences of g_b along u in a (of L, twice, where
the first gradient is wrong already); ∂⟨u, g_a⟩/∂W against those of f. Steps are tried from large to small and the best
counts: no wrong derivative agrees with differences at any step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from case import PARAMETERS, Case
from torch import Tensor

STEPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6)
MISSING = 1e-6
"""A measured block below this fraction of its truth is missing."""

SILENT = 1e-4
"""A block below this fraction of the largest one of its kind carries no signal."""


@dataclass
class Found:
    """What a check found.

    ``first`` holds the relative error of each first gradient, ``blocks`` the state and the relative error of each block
    (a, b) that carries signal, b being "W" for the cotangent; ``raised`` the order and the message of an exception;
    ``unused`` the inputs that autograd does not know of, although the forward depends on them.
    """

    tolerance: float
    first: dict[str, float] = field(default_factory=dict)
    blocks: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    raised: tuple[int, str] | None = None
    unused: list[str] = field(default_factory=list)

    def verdict(self) -> str:
        """The class that follows, in the linter's words: of the inputs alone or, where that is safe, of all."""
        if self.raised:
            return "first_order_only" if self.raised[0] == 2 else "hard_structural"
        if self.unused:
            return "hard_structural"
        alone = self._verdict([name for name in self.first if name != PARAMETERS])
        return alone if alone != "safe" else self._verdict(list(self.first))

    def _verdict(self, names: list[str]) -> str:
        states = {(a, b): s for (a, b), (s, _) in self.blocks.items() if a in names and b in [*names, "W"]}
        hessian = {state for (_, b), state in states.items() if b != "W"}
        if hessian == {"missing"}:
            return "silent_collapse"
        wrong = any(self.first[name] > self.tolerance for name in names)
        return "silent_corruption" if wrong or set(states.values()) - {"right"} else "safe"

    def counts(self) -> str:
        """How many blocks are right, wrong and missing, and the worst errors."""
        states = [state for state, _ in self.blocks.values()]
        counts = " ".join(f"{state} {states.count(state):2}" for state in ("right", "wrong", "missing"))
        worst = max((error for _, error in self.blocks.values()), default=0.0)
        return f"{counts}  worst {worst:.0e}  first order {max(self.first.values(), default=0.0):.0e}"


def run(function: Callable[..., Tensor], inputs: list[Tensor]) -> Tensor:
    """The function with the random numbers that it always draws."""
    torch.manual_seed(7)
    return function(*inputs)


def normal(like: Tensor, seed: int) -> Tensor:
    """Numbers of a tensor's shape and dtype that depend on nothing else."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(like.dtype)


class Check:
    """One case under examination."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.names = list(case.inputs)
        self.point = [t.detach() for t in case.inputs.values()]
        self.directions = [normal(t, 100 + i) for i, t in enumerate(self.point)]
        self.cotangent = normal(run(case.function, self.leaves()).detach(), 99)
        self.found = Found(case.tolerance)

    def leaves(self, moved: int = -1, step: float = 0.0) -> list[Tensor]:
        """Fresh inputs, the one of an index moved along its direction."""
        values = [t + step * self.directions[i] if i == moved else t.clone() for i, t in enumerate(self.point)]
        return [value.detach().requires_grad_() for value in values]

    def output(self, moved: int, step: float) -> Tensor:
        return run(self.case.function, self.leaves(moved, step)).detach()

    def gradients(self, moved: int = -1, step: float = 0.0) -> list[Tensor]:
        """The first gradients of L at a moved point, without a graph behind them."""
        leaves = self.leaves(moved, step)
        loss = (self.cotangent * run(self.case.function, leaves)).sum()
        found = torch.autograd.grad(loss, leaves, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]

    def examine(self) -> Found:
        """First gradients, then every block."""
        leaves = self.leaves()
        cotangent = self.cotangent.clone().requires_grad_()
        order = 1
        try:
            loss = (cotangent * run(self.case.function, leaves)).sum()
            first = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
            order = 2
            rows = [self._row(g, i, [*leaves, cotangent]) for i, g in enumerate(first)]
            torch.autograd.backward([g.sum() for g in first if g is not None and g.requires_grad])
        except Exception as error:
            first_works = order == 2 or self._goes_backward()
            self.found.raised = (1 + first_works, f"{type(error).__name__}: {str(error).splitlines()[0][:90]}")
            return self.found
        right = self._first(
            [torch.zeros_like(x) if g is None else g.detach() for g, x in zip(first, leaves, strict=True)]
        )
        missing = [name for name, gradient in zip(self.names, first, strict=True) if gradient is None]
        self.found.unused = [name for name in missing if self.found.first[name] > self.case.tolerance]
        self._blocks(rows, right)
        return self.found

    def _goes_backward(self) -> bool:
        """Whether ``.backward()`` gives the first gradients where ``autograd.grad`` refuses (reentrant checkpoints)."""
        try:
            (self.cotangent * run(self.case.function, self.leaves())).sum().backward()
        except Exception:
            return False
        return True

    def _row(self, gradient: Tensor | None, index: int, variables: list[Tensor]) -> list[Tensor]:
        zeros = [torch.zeros_like(v) for v in variables]
        if gradient is None or not gradient.requires_grad:
            return zeros
        scalar = (self.directions[index] * gradient).sum()
        rows = torch.autograd.grad(scalar, variables, retain_graph=True, allow_unused=True)
        return [z if r is None else r.detach() for r, z in zip(rows, zeros, strict=True)]

    def _first(self, gradients: list[Tensor]) -> bool:
        """Whether every first gradient fits the forward."""
        slopes = [float((g * u).sum()) for g, u in zip(gradients, self.directions, strict=True)]
        sizes = [float(g.norm()) for g in gradients]
        for index, (name, slope) in enumerate(zip(self.names, slopes, strict=True)):
            error = min(abs(self._slope(index, h) - slope) for h in STEPS)
            self.found.first[name] = error / max(abs(slope), sizes[index], SILENT * max(sizes), 1e-300)
        return max(self.found.first.values()) <= self.case.tolerance

    def _slope(self, index: int, h: float) -> float:
        return float((self.cotangent * (self.output(index, h) - self.output(index, -h))).sum()) / (2 * h)

    def _blocks(self, rows: list[list[Tensor]], by_gradient: bool) -> None:
        """Every row by differences beside the measured one; cotangent blocks have a scale of their own."""
        names = [*self.names, "W"]
        pairs = {}
        for a, row in enumerate(rows):
            for b, pair in zip(names, self._beside(a, row, by_gradient), strict=True):
                pairs[self.names[a], b] = pair
        for key, (truth, seen) in pairs.items():
            largest = max(float(t.norm()) for (_, b), (t, _) in pairs.items() if (b == "W") == (key[1] == "W"))
            self._judge(key, truth, seen, SILENT * largest)

    def _beside(self, a: int, row: list[Tensor], by_gradient: bool) -> list[tuple[Tensor, Tensor]]:
        """For each block of a row the differences of the step that fits best, and what was measured, likewise seen."""
        best: list[tuple[float, Tensor]] = []
        seen = self._seen(row, by_gradient)
        for h in STEPS:
            found = self._differences(a, row, h, by_gradient)
            scored = [(float((x - y).norm()), x) for x, y in zip(found, seen, strict=True)]
            best = [min(two, key=lambda s: s[0]) for two in zip(best, scored, strict=True)] if best else scored
        return [(x, y) for (_, x), y in zip(best, seen, strict=True)]

    def _seen(self, row: list[Tensor], by_gradient: bool) -> list[Tensor]:
        if by_gradient:
            return row
        return [(r * u).sum()[None] for r, u in zip(row, self.directions, strict=False)] + row[-1:]

    def _differences(self, a: int, row: list[Tensor], h: float, by_gradient: bool) -> list[Tensor]:
        out = (self.output(a, h) - self.output(a, -h)) / (2 * h)
        if by_gradient:
            pairs = zip(self.gradients(a, h), self.gradients(a, -h), strict=True)
            return [*[(x - y) / (2 * h) for x, y in pairs], out]
        return [*[self._mixed(a, b, h)[None] for b in range(len(row) - 1)], out]

    def _mixed(self, a: int, b: int, h: float) -> Tensor:
        """The second difference of L along the directions of two inputs."""
        total = torch.zeros((), dtype=self.cotangent.dtype)
        for s in (1, -1):
            for t in (1, -1):
                values = [x.clone() for x in self.point]
                values[a] += s * h * self.directions[a]
                values[b] += t * h * self.directions[b]
                moved = run(self.case.function, [v.requires_grad_() for v in values]).detach()
                total += s * t * (self.cotangent * moved).sum()
        return total / (4 * h * h)

    def _judge(self, key: tuple[str, str], truth: Tensor, seen: Tensor, floor: float) -> None:
        size, error = float(truth.norm()), float((seen - truth).norm())
        if max(size, error) <= floor:
            return
        relative = error / max(size, floor, 1e-300)
        nothing = float(seen.norm()) <= MISSING * size
        state = "right" if relative <= self.case.tolerance else "missing" if nothing else "wrong"
        self.found.blocks[key] = state, relative
