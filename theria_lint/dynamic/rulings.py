"""What is said of a suspect in the end, and how the questions that lead there are asked.

An inquiry is a generator: it yields the variants that it has to know of next, and goes on once they have run. So the
inquiries of many targets go side by side, and a test needs no kernel to hold one against a table of verdicts.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from theria_lint.dynamic.evidence import Neutralised
from theria_lint.dynamic.protocol import MATH_PATH, Outcome
from theria_lint.model import Disposition, Suspect

_Answer = TypeVar("_Answer")
Inquiry = Generator[list[Neutralised], None, _Answer]

FEW = 10
"""How many sets of suspects of one size are tried before the rest is left alone."""


@dataclass(frozen=True)
class Ruling:
    """The disposition of a suspect in one target, and one sentence of evidence."""

    disposition: Disposition
    reason: str


Rulings = dict[Suspect, Ruling]


@dataclass(frozen=True)
class Attribution:
    """The rulings on a target's suspects; ``mended``: the confirmed ones, if the target was safe without them."""

    rulings: Mapping[Suspect, Ruling] = field(default_factory=dict)
    mended: Neutralised = frozenset()


_CUTS = ("drop-call", "drop-attribute", "first-argument", "null-context")
_HOOKS = "hook-cut"
_FUSED = "fused-attention"


def cuts_forward(suspect: Suspect) -> bool:
    """Whether a suspect acts where it stands; what a hook does it does in a backward, wherever it is registered."""
    return suspect.neutraliser in _CUTS and suspect.name != _HOOKS


def is_exercised(suspect: Suspect, outcome: Outcome) -> bool:
    """Whether what a suspect may do could be seen: a call that may reach a fused kernel did reach one."""
    return suspect.name != _FUSED or not any(MATH_PATH in run.notes for run in outcome.runs)


def stand_in(suspect: Suspect) -> str:
    """What stands in for a suspect that no rewrite neutralises."""
    if suspect.symbol.endswith(".backward"):
        return f"with autograd of the forward in the place of {suspect.symbol}"
    return "with the tensor computed again on the graph where the backward unpacks it"


def named(suspects: Collection[Suspect]) -> str:
    """Suspects in words."""
    return " and ".join(f"{s.rule} on line {s.span.line}" for s in suspects)
