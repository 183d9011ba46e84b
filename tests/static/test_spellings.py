"""Suspects as people spell them: small kernels in many styles, each line with the rules that it holds.

The comment ``# THL002 THL008`` names every suspect that begins on its line, ``# todo: THL009`` one that is not found.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from theria_lint.rules.loader import load_rules
from theria_lint.static.prefilter import may_hold_suspects
from theria_lint.static.scan import scan_source

RULES = load_rules()
TEXT = (Path(__file__).parents[1] / "data" / "spellings.txt").read_text(encoding="utf-8")
_, *PARTS = re.split(r"^#### (\w+)\n", TEXT, flags=re.MULTILINE)
KERNELS = dict(zip(PARTS[::2], PARTS[1::2], strict=True))
EXPECTED = re.compile(r"# ((?:THL\d{3} ?)+)$")


def expected(source: str) -> Counter[tuple[int, str]]:
    lines = enumerate(source.splitlines(), start=1)
    marked = ((number, EXPECTED.search(line)) for number, line in lines)
    return Counter((number, rule) for number, mark in marked if mark for rule in mark[1].split())


def test_there_are_many() -> None:
    assert len(PARTS) == 2 * len(KERNELS) >= 160
    assert {rule for source in KERNELS.values() for _, rule in expected(source)} == {rule.id for rule in RULES.rules}


@pytest.mark.parametrize("name", KERNELS)
def test_what_is_marked_is_found_and_nothing_else(name: str) -> None:
    source = KERNELS[name]
    found = scan_source("kernel.py", source, RULES)
    assert Counter((suspect.span.line, suspect.rule) for suspect in found) == expected(source)
    assert scan_source("kernel.py", source, RULES, prefilter=False) == found
    assert may_hold_suspects(source.encode(), RULES) or not found
