"""The README's table says what the experiment measures."""

import re
from pathlib import Path

from bad_backends import WRAPPERS
from diagnostics import COLUMNS

from tests.support.phase11_truth import EXPECTED

README = (Path(__file__).parents[2] / "experiments" / "phase11" / "README.md").read_text(encoding="utf-8")

NOTHING = "\N{EN DASH}"


def cells(line):
    return [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def test_the_table_gives_every_wrapper_its_class():
    section = README.split("## What came out")[1].split("## ")[0]
    rows = [cells(line) for line in section.splitlines() if line.startswith("| `")]
    assert {row[0]: (row[1], row[2], row[4].replace(NOTHING, "")) for row in rows} == EXPECTED
    assert [row[0] for row in rows] == list(WRAPPERS)


def test_every_column_is_explained():
    explained = set()
    for line in README.split("## Columns")[1].splitlines():
        if line.startswith("| `"):
            for name in re.findall(r"`(.*?)`", line.split("|")[1]):
                stem, _, ends = name.partition("{")
                explained |= {stem + end for end in ends.rstrip("}").split(",")}
    assert explained == set(COLUMNS)
