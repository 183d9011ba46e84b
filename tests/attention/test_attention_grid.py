"""The whole grid of what attention supports, drawn by hypothesis, in float64 against an independent attention."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.attention_grid import build, check_blocks
from tests.support.attention_oracle import Case

#: The same examples in every run, and none kept on disk.
bounded = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def cases(draw: st.DrawFn, *, longest: int = 12) -> Case:
    """Float64 cases over the whole grid of what attention supports."""
    key_heads = draw(st.integers(1, 2))
    mask = draw(st.sampled_from(["none", "causal", "bool", "additive", "hidden"]))
    return build(
        batch=draw(st.integers(1, 2)),
        heads=key_heads * draw(st.integers(1, 2)),
        key_heads=key_heads,
        queries=draw(st.integers(1, longest)),
        keys=draw(st.integers(1, longest)),
        width=draw(st.integers(1, 9)),
        value_width=draw(st.integers(1, 9)),
        mask="none" if mask == "causal" else mask,
        causal=mask == "causal",
        scale=draw(st.sampled_from([None, 0.3, 1.0])),
        mask_shape=tuple(draw(st.booleans()) for _ in range(4)),
        strided=draw(st.booleans()),
        seed=draw(st.integers(0, 9)),
    )


@settings(bounded, max_examples=40)
@given(cases())
@pytest.mark.parametrize("backend", ["reference", "custom"])
def test_eager_backends(backend: str, case: Case) -> None:
    check_blocks(case, backend)


@settings(bounded, max_examples=12)
@given(cases(longest=36))
@pytest.mark.usefixtures("small_tiles")
def test_triton_in_tiles(case: Case) -> None:
    check_blocks(case, "triton")
