"""Which suspects a run executed, from the places that it executed."""

from __future__ import annotations

import pytest

from theria_lint.dynamic.reach import Reach
from theria_lint.model import Span, Suspect

SOURCE = """
def forward(ctx, q, weights, flag):
    ctx.save_for_backward(q, weights)
    return weights if flag else q.detach()
"""


def reached(number: int, text: str, executed: tuple[int, int, int, int]) -> bool:
    """Whether the only suspect, at a piece of a line of the source, is reached by an instruction there."""
    column = SOURCE.splitlines()[number - 1].index(text) + 1
    span = Span(number, column, number, column + len(text))
    suspect = Suspect("THL002", "detach", "error", "k.py", span, "forward", "", "", (2, 4), None)
    return bool(Reach(SOURCE, [suspect]).reached([executed]))


@pytest.mark.parametrize(
    ("line", "text", "executed", "expected"),
    [
        (4, "q.detach()", (4, 32, 4, 42), True),
        (4, "q.detach()", (4, 11, 4, 18), False),
        (4, "q.detach()", (4, 22, 4, 26), False),
        (4, "weights", (4, 11, 4, 18), True),
        (4, "weights", (4, 32, 4, 42), False),
        (3, "weights", (3, 4, 3, 37), True),  # no instruction of its own: it shares its neighbour's
        (3, "weights", (4, 11, 4, 18), False),
    ],
)
def test_a_suspect_is_reached_by_what_runs_inside_it(line, text, executed, expected):
    assert reached(line, text, executed) is expected
