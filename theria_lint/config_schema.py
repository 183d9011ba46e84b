"""The JSON schema of the configuration, for editors: ``python -m theria_lint.config_schema`` prints it.

``docs/configuration-1.schema.json`` is this, written down. What it says of a value is what `config` takes.
"""

from __future__ import annotations

import json
from typing import Any

from theria_lint.config import (
    CALLS,
    DEVICE_PATTERN,
    DEVICES,
    DTYPES,
    EXECUTOR_PATTERN,
    EXTEND,
    FAIL_ON,
    FORMATS,
    LAYOUTS,
    MOST_JOBS,
    MOST_SECONDS,
    ORACLES,
    Settings,
)

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "pattern": "^[^\\u0000]+$"}
_FLAG: Schema = {"type": "boolean"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}


def _choose(choices: tuple[str, ...]) -> Schema:
    return {"type": "string", "enum": list(choices)}


def _match(pattern: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$"}


_TARGET: Schema = {
    "type": "object",
    "properties": {
        "target": {
            "description": "package.module:symbol, path/to/file.py:symbol or symbol",
            "type": "string",
            "pattern": "^[^\\u0000]*[^\\u0000:]$",
        },
        "layout": {"description": "the axes of q, k and v", **_choose(LAYOUTS)},
        "kwargs": {"description": "keyword arguments for the call", "type": "object"},
        "device": {"description": "where it runs", **_choose(DEVICES)},
        "dtype": {"description": "in what precision it runs", **_choose(DTYPES)},
        "oracle": {"description": "where its true derivatives come from", **_choose(ORACLES)},
        "skip": {"description": "never run it", **_FLAG},
    },
    "required": ["target"],
    "additionalProperties": False,
}

_KEYS: dict[str, tuple[str, Schema]] = {
    "select": ("report only these rules, by the beginning of their ids or by name", _TEXTS),
    "ignore": ("leave these rules out", _TEXTS),
    "per-file-ignores": ("rules to leave out, by file pattern", {"type": "object", "additionalProperties": _TEXTS}),
    "exclude": ("paths to leave out, in the syntax of .gitignore", _TEXTS),
    "respect-gitignore": ("leave out what git ignores", _FLAG),
    "rule-paths": ("folders with rules of your own", _TEXTS),
    "detach-names": ("dotted names of functions that cut the graph", _TEXTS),
    "confirm": ("run the code, to confirm or clear suspects", _FLAG),
    "python": ("the interpreter that runs the code, once it is trusted", _TEXT),
    "device": ("where the code runs: cuda on every GPU, cuda:N on one", _match(DEVICE_PATTERN)),
    "timeout": (
        "seconds for one target; fourfold on a GPU",
        {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_SECONDS},
    ),
    "max-time": (
        "seconds for the whole run, spent on targets without a verdict first; 0 for no limit",
        {"type": "number", "minimum": 0, "maximum": MOST_SECONDS},
    ),
    "jobs": ("processes; 0 for one per CPU", {"type": "integer", "minimum": 0, "maximum": MOST_JOBS}),
    "executor": ("whose machines run the code; an address may not stand in a file", _match(EXECUTOR_PATTERN)),
    "fail-on": ("what exits with 1", {"type": "array", "items": _choose(FAIL_ON), "minItems": 1}),
    "baseline": ("a file of accepted findings", _TEXT),
    "cache": ("keep results between runs", _FLAG),
    "cache-dir": ("where results are kept, in the project", _TEXT),
    "output-format": ("the format on standard output", _choose(FORMATS)),
    "targets": ("how to call particular targets", {"type": "array", "items": _TARGET}),
    "adapters": ("Python files of functions that call targets", _TEXTS),
    "calls": ("how targets are called", _choose(CALLS)),
    "calls-dir": ("where recorded calls are, in the project", _TEXT),
}


def describe_key(key: str) -> Schema:
    """The schema of a key's value, with its default."""
    described, schema = _KEYS[key]
    default = getattr(Settings(), key.replace("-", "_"))
    if isinstance(default, tuple):
        default = {} if schema["type"] == "object" else list(default)
    return {"description": described, **schema} | ({} if default is None else {"default": default})


def make_schema() -> Schema:
    """The schema of a ``theria-lint.toml``, or of ``[tool.theria-lint]``."""
    extend = {"description": "another file of the project, whose values hold where this one is silent", **_TEXT}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of theria-lint",
        "type": "object",
        "properties": {EXTEND: extend, **{key: describe_key(key) for key in _KEYS}},
        "additionalProperties": False,
    }


if __name__ == "__main__":
    print(json.dumps(make_schema(), indent=2))
