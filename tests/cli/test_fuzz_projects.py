"""Hostile projects of every kind: no traceback, no end that does not come, nobody else's file changed, shown or run."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_projects import run_random

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="each is linted in a fork")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32).map(Random))
def test_a_hostile_project_does_no_harm(source: Random) -> None:
    with tempfile.TemporaryDirectory() as place:
        assert run_random(source, Path(place).resolve()) is None
