"""What a probe can say of attention: the vocabulary shared with the linter. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """What a target is. Declared from the worst to the best, ``inconclusive`` last: it says nothing.

    Silence is worse than noise: a failure that raises is found by whoever runs the code.
    """

    SILENT_COLLAPSE = "silent_collapse"
    SILENT_CORRUPTION = "silent_corruption"
    FIRST_ORDER_ONLY = "first_order_only"
    HARD_STRUCTURAL = "hard_structural"
    SAFE = "safe"
    INCONCLUSIVE = "inconclusive"

    @property
    def unsafe(self) -> bool:
        """Whether a measurement showed a failure."""
        return self not in (Verdict.SAFE, Verdict.INCONCLUSIVE)


class Status(StrEnum):
    """How far autograd got: the column ``status`` of the phase-11 table."""

    OK = "OK"
    HARD_FAIL_UNUSED = "HARD_FAIL_UNUSED"
    HARD_FAIL_ONCE_DIFF = "HARD_FAIL_ONCE_DIFF"
    HARD_FAIL_OTHER = "HARD_FAIL_OTHER"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of some verdicts; ``inconclusive`` when there is none, or nothing else."""
    order = list(Verdict)
    return min(verdicts, key=order.index, default=Verdict.INCONCLUSIVE)


COTANGENT = "out"
"""The name of W among the variables of a block, as in ``"q,out"``."""


def variable(name: str) -> str:
    """A variable as it is written in a formula."""
    return "W" if name == COTANGENT else name


def block_name(gradient: str, by: str) -> str:
    """The block that differentiates an input's gradient by a variable: ``∂g_q/∂W``."""
    return f"∂g_{gradient}/∂{variable(by)}"
