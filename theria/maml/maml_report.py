"""What a MAML probe says: typed, and printable as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from theria.verdicts import Status


@dataclass(frozen=True, slots=True)
class MamlStep:
    """One outer step: one task, one point θ.

    ``rel_diff``: ‖g_FULL − g_FO‖ / ‖g_FULL‖, the share of the meta-gradient that second derivatives carry.
    ``meta_gradient_error``: ‖g_FULL − g*‖ / ‖g*‖ beside the oracle's g*, None where there is no oracle.
    ``attention_shares`` (by ``q``, ``k``, ``v``: whose projection) and ``head_share``: the norms, over ‖g_FULL‖, of
    what the two attributions compare (see ``theria.maml.probe``); ``second_order_path``, ``_attn`` and ``_head`` say
    whether they rise above ``noise``.
    """

    rel_diff: float
    meta_gradient_error: float | None
    attention_shares: Mapping[str, float]
    head_share: float
    noise: float

    @property
    def attention_share(self) -> float:
        """The share of the meta-gradient that the attention's own double backward brings to all three projections."""
        return math.hypot(*self.attention_shares.values())

    @property
    def second_order_path(self) -> bool:
        """Whether any second-order signal reaches θ, by whatever path."""
        return self.rel_diff > self.noise

    @property
    def second_order_path_attn(self) -> bool:
        """Whether the attention's own double backward brings signal to the q, k and v projections."""
        return self.attention_share > self.noise

    @property
    def second_order_path_head(self) -> bool:
        """Whether the classifier gets second-order signal that needs no double backward of the attention."""
        return self.head_share > self.noise


@dataclass(frozen=True, slots=True)
class MamlReport:
    """A kernel's behaviour under a meta-gradient; ``steps`` is empty unless ``status`` is OK.

    ``oracle`` says what ``meta_gradient_error`` was measured against: ``reference (float64)``,
    ``finite differences of the post-adaptation loss``, or ``""`` for nothing.
    """

    status: Status
    steps: tuple[MamlStep, ...]
    inner_steps: int
    dtype: str
    device: str
    oracle: str
    error: str | None = None

    @property
    def rel_diff(self) -> float | None:
        """The mean over outer steps of the FULL–FO discrepancy."""
        return sum(step.rel_diff for step in self.steps) / len(self.steps) if self.steps else None

    @property
    def meta_gradient_error(self) -> float | None:
        """The largest error of the meta-gradient over outer steps; NaN counts as the largest."""
        errors = [step.meta_gradient_error for step in self.steps if step.meta_gradient_error is not None]
        return max(errors, key=lambda e: math.inf if math.isnan(e) else e) if errors else None

    def flags(self) -> dict[str, bool]:
        """``second_order_path{,_attn,_head}_{all,any}`` over the outer steps; empty unless the status is OK."""
        found: dict[str, bool] = {}
        for name in ("second_order_path", "second_order_path_attn", "second_order_path_head"):
            values = [getattr(step, name) for step in self.steps]
            if values:
                found |= {f"{name}_all": all(values), f"{name}_any": any(values)}
        return found

    def attention_inputs(self) -> tuple[str, ...]:
        """Which of q, k, v get signal from the attention's own double backward, in any outer step."""
        return tuple(
            name for name in ("q", "k", "v") if any(step.attention_shares[name] > step.noise for step in self.steps)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the ``maml`` object of a run in the linter's JSON."""
        return {
            "status": str(self.status),
            "rel_diff": self.rel_diff,
            "meta_gradient_error": self.meta_gradient_error,
            **self.flags(),
            "second_order_attn_inputs": list(self.attention_inputs()),
            "outer_steps": len(self.steps),
            "inner_steps": self.inner_steps,
            "oracle": self.oracle,
            "error": self.error,
        }

    def __str__(self) -> str:
        """One line of facts, then one line an outer step."""
        where = f"{self.inner_steps} inner steps; {self.dtype}, {self.device}; oracle: {self.oracle or 'none'}"
        lines = [f"{self.status}; {where}"]
        if self.error:
            lines.append(self.error)
        if self.steps:
            lines.append("step  rel_diff  error     attention  head")
        for number, step in enumerate(self.steps):
            error = "-" if step.meta_gradient_error is None else f"{step.meta_gradient_error:.1e}"
            lines.append(
                f"{number:>4}  {step.rel_diff:<8.2e}  {error:<8}  {step.attention_share:<9.2e}  {step.head_share:.2e}"
            )
        return "\n".join(lines)
