"""The schema of the configuration: what it takes is what the linter takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from theria_lint.config import KEYS, TARGET_KEYS, read_values
from theria_lint.config_schema import describe_key, make_schema
from theria_lint.errors import UserError

ROOT = Path(__file__).parents[2]


def list_words(schema: Any) -> set[str]:
    """The choices anywhere in a schema."""
    if isinstance(schema, dict):
        inner = set().union(*map(list_words, schema.values())) if schema else set()
        return inner | set(schema.get("enum", ()) if isinstance(schema.get("enum", ()), list) else ())
    return set().union(*map(list_words, schema)) if isinstance(schema, list) and schema else set()


WORDS = sorted(list_words(make_schema()))
SCALARS = st.one_of(
    st.sampled_from(["", "\0", "a:b", "a:", ":", *WORDS]),
    st.booleans(),
    st.integers(-2, 2000),
    st.floats(-1, 1e6, allow_nan=False).filter(lambda number: not number.is_integer()),
)
TABLES = st.dictionaries(st.sampled_from([*TARGET_KEYS, "other"]), st.one_of(SCALARS, st.just({"a": 1})), max_size=3)
TARGETS = TABLES.map(lambda table: {"target": "m:f", **table})
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=2),
    st.dictionaries(st.just("*.py"), st.lists(SCALARS, max_size=2)),
    st.lists(st.one_of(TABLES, TARGETS), max_size=2),
)


def test_the_file_is_written_down_and_names_every_key() -> None:
    shipped = json.loads((ROOT / "docs" / "configuration-1.schema.json").read_text())
    assert shipped == make_schema(), "write it again: python -m theria_lint.config_schema"
    assert list(shipped["properties"]) == ["extend", *KEYS]
    assert list(shipped["properties"]["targets"]["items"]["properties"]) == list(TARGET_KEYS)
    jsonschema.Draft202012Validator.check_schema(shipped)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(list(KEYS)), VALUES)
def test_what_the_schema_takes_is_what_the_linter_takes(key: str, value: Any) -> None:
    try:
        read_values({key: value}, "/", "here")
        taken = True
    except UserError:
        taken = False
    assert jsonschema.Draft202012Validator(describe_key(key)).is_valid(value) is taken
