"""What a probe can say of attention: the vocabulary shared with the linter. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


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


class Ground(StrEnum):
    """What a measurement rests its verdict on, or what else it found out; `theria.wording` has the words."""

    ALL_AGREE = "all_agree"
    SIGNAL_LOST = "signal_lost"
    BLOCKS_LOST = "blocks_lost"
    ROUTE_LOST = "route_lost"
    CURVATURE_LOST = "curvature_lost"
    GRADIENT_WRONG = "gradient_wrong"
    DIFFERENTIATION_RAISES = "differentiation_raises"
    NODE_FOUND = "node_found"
    NEVER_DIFFERENTIABLE = "never_differentiable"
    INPUT_UNUSED = "input_unused"
    OUTPUT_OUTSIDE_GRAPH = "output_outside_graph"
    BACKWARD_NOT_RUNNABLE = "backward_not_runnable"
    FORWARD_NOT_FINITE = "forward_not_finite"
    FORWARD_NOT_FINITE_NEARBY = "forward_not_finite_nearby"
    FORWARD_NOT_REPEATABLE = "forward_not_repeatable"
    NO_DEPENDENCE = "no_dependence"
    ORACLE_DOUBTFUL = "oracle_doubtful"
    RAISED = "raised"
    OTHER_CONFIGURATION = "other_configuration"
    NOT_PROBED = "not_probed"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is as it is said to be: a code, and the names and numbers that belong to it.

    ``data`` holds what JSON can hold, and further reasons. Whoever shows a reason puts it into words.
    """

    code: str
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """The reason as JSON data, reasons within it likewise."""
        return {"code": str(self.code), "data": {name: _to_json(value) for name, value in self.data.items()}}


def iter_reasons(reason: Reason) -> Iterator[Reason]:
    """A reason and those within it."""
    yield reason
    for value in reason.data.values():
        for inner in value if isinstance(value, list | tuple) else (value,):
            if isinstance(inner, Reason):
                yield from iter_reasons(inner)


def holds_code(reason: Reason, code: str) -> bool:
    """Whether a reason, or one within it, has a code."""
    return any(inner.code == code for inner in iter_reasons(reason))


def iter_texts(reason: Reason) -> Iterator[str]:
    """The texts in the data of a reason and of those within it: what code under test and libraries have said."""
    for value in reason.data.values():
        yield from _iter_value_texts(value)


def _iter_value_texts(value: Any) -> Iterator[str]:
    if isinstance(value, Reason):
        yield from iter_texts(value)
    elif isinstance(value, str):
        yield value


class CodedError(Exception):
    """An error that says why by a code with data; its text is these, for whoever quotes errors as they are.

    ``about`` has words of which parameters are named that have to do with it, or what this machine lacks.
    """

    def __init__(self, code: str, about: str = "", **data: Any) -> None:
        """Keep the reason, of which ``data`` are the data."""
        told = ", ".join(str(value) for value in data.values() if not isinstance(value, Reason))
        super().__init__(f"{code}: {told}" if told else str(code))
        self.reason = Reason(code, data)
        self.about = about


def find_coded_error(error: BaseException | None) -> CodedError | None:
    """The coded error that one is, or that Triton's interpreter has wrapped in its own."""
    while error is not None and type(error).__name__ == "InterpreterError":
        error = error.__cause__
    return error if isinstance(error, CodedError) else None


def _to_json(value: Any) -> Any:
    if isinstance(value, Reason):
        return value.to_json()
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value


def finite(number: float) -> float | None:
    """A number as JSON can hold it: None for one that is not finite."""
    return number if math.isfinite(number) else None


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of some verdicts; ``inconclusive`` when there is none, or nothing else."""
    order = list(Verdict)
    return min(verdicts, key=order.index, default=Verdict.INCONCLUSIVE)


STATE_SIGNS = {"right": "\u00b7", "zero": "0", "missing": "\u2205", "wrong": "\u2260", "unclear": "?"}
"""The sign of what a gradient or block is beside the oracle's, wherever blocks are shown."""

PLAIN_SIGNS = {"right": ".", "zero": "0", "missing": "x", "wrong": "!", "unclear": "?"}
"""The signs for a terminal that knows no others."""

STATE_WORDS = {
    "right": "right",
    "zero": "zero, and truly so",
    "missing": "missing",
    "wrong": "wrong",
    "unclear": "too noisy to tell",
}


def format_legend(unicode: bool = True) -> str:
    """What the signs mean, on one line."""
    signs = STATE_SIGNS if unicode else PLAIN_SIGNS
    return "; ".join(f"{signs[state]} {meaning}" for state, meaning in STATE_WORDS.items())


COTANGENT = "out"
"""The name of W among the variables of a block, as in ``"q,out"``."""


def variable(name: str) -> str:
    """A variable as it is written in a formula."""
    return "W" if name == COTANGENT else name


def block_name(gradient: str, by: str) -> str:
    """The block that differentiates an input's gradient by a variable: ``∂g_q/∂W``."""
    return f"∂g_{gradient}/∂{variable(by)}"
