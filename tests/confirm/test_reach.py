"""Which suspects a run executed, from the places that it executed."""

from __future__ import annotations

import pytest

from theria_lint.confirm.coverage_map import CoverageMap, map_back_to_source
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
    return bool(CoverageMap(SOURCE, [suspect]).find_executed_suspects([executed]))


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


@pytest.mark.parametrize(
    ("old", "new", "text", "expected"),
    [
        ("    return q @ k", "    return q @ k", "q", "q"),
        ("        return q @ k", "    return q @ k", "k", "k"),
        ("    return q.detach() @ k.data", "    return q @ k.data", "k.data", "k.data"),
        ("    return q.detach() @ k.data", "    return q.detach() @ k", "q.detach()", "q.detach()"),
        ("        é = torch.detach(q) if k else v.data", "    é = q if k else v.data", "v.data", "v.data"),
        ("    f(q.detach(), k, v.detach())", "    f(q, k, v)", "k", None),
        ("    f(q.detach(), k, v.detach())", "    f(q, k, v)", "f(q, k, v)", "f(q.detach(), k, v.detach())"),
    ],
)
def test_a_place_in_a_variant_is_found_in_its_source(old, new, text, expected):
    def place(line, text):
        start = line.encode().rindex(text.encode())
        return 1, start, 1, start + len(text.encode())

    found = map_back_to_source([place(new, text)], old, new)
    assert found == ([] if expected is None else [place(old, expected)])
