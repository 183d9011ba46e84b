"""Settings by environment variables: ``THERIA_LINT_OUTPUT_FORMAT`` for ``output-format``, lists with commas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from theria_lint.errors import UserError, suggest_name

_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def read_environment(
    environment: Mapping[str, str], prefix: str, defaults: Mapping[str, Any], tables: Iterable[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What the variables say, by key, in the form of a configuration file; and the variable of each key.

    ``defaults`` are those of all keys that there is a variable for, ``tables`` the keys that there is none for. An
    empty variable counts as not set. Raises UserError for one that is nearly, but not quite, called like ours.
    """
    known = {_name_variable(key): key for key in defaults}
    none = {_name_variable(key): key for key in tables}
    values: dict[str, Any] = {}
    variables: dict[str, str] = {}
    for name, text in sorted(environment.items()):
        word = name.removeprefix(prefix)
        if not name.startswith(prefix) or not text.strip():
            continue
        if word in known:
            key = known[word]
            values[key], variables[key] = _parse_text(defaults[key], text.strip()), name
        elif word in none:
            raise UserError(f"{name}: no variable holds a table; write {none[word]} into a configuration file.")
        elif near := suggest_name(word, known).replace('"', f'"{prefix}', 1):
            listed = ", ".join(prefix + word for word in known)
            raise UserError(f"{name}: no such variable{near}; the variables are {listed}.")
    return values, variables


def _name_variable(key: str) -> str:
    return key.upper().replace("-", "_")


def _parse_text(default: Any, text: str) -> Any:
    """A value of the kind of a default; what cannot be one is left as it is, for the reader to refuse."""
    if isinstance(default, tuple):
        return [item.strip() for item in text.split(",") if item.strip()] or text
    if isinstance(default, bool):
        return _FLAGS.get(text.lower(), text)
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            return text
    return text
