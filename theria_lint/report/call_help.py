"""Say how a user can tell how a target is called: blocks to paste into a configuration, adapters, recorded calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

RECORD = 'Let your own calls show how: "theria-lint record -- pytest" keeps what your tests call it with'
"""What helps wherever made-up arguments do not fit."""

TIMEOUT = "give it more with --timeout"
ON_GPU = "lint where there is a GPU, with --device cuda"


def iter_call_helps(data: Mapping[str, Any]) -> Iterator[str]:
    """The ways to tell how a target is called, the shortest first; of those, what can work for this target alone.

    Guesses are offered that a configuration can hold. The order of axes is, where nothing else had to be guessed.
    """
    target, values = data["target"], data["values"]
    if values:
        block = format_target_table(target, f"kwargs = {_format_toml(values)}")
        yield f"Say how it is called, with values of yours in the place of these guesses:\n{block}"
    elif data["has_layout"] and not data["guessed"]:
        block = format_target_table(target, 'layout = "BTHD"')
        yield f"Say how the axes of q, k and v lie, in letters as these (batch, time, heads, dimension):\n{block}"
    takes = "x that builds and calls it" if data["is_class"] else "q, k, v that calls it"
    marked = f"@theria.testing.target({_format_toml(target)})"
    yield f"Write a function of {takes}, in a file that `adapters` names, and mark it:\n{marked}"
    yield RECORD


def format_target_table(target: str, *lines: str) -> str:
    """The table of ``pyproject.toml`` for a target."""
    return "\n".join(("[[tool.theria-lint.targets]]", f"target = {_format_toml(target)}", *lines))


def _format_toml(value: Any) -> str:
    """A value as TOML writes it; text is written as Python writes it too."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_format_key(key)} = {_format_toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_format_toml, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _format_key(name: str) -> str:
    return name if name.isascii() and name.isidentifier() else _format_toml(name)
