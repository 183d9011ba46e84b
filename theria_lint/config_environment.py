"""Settings by environment variables: ``THERIA_LINT_OUTPUT_FORMAT`` for ``output-format``, lists with commas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from theria_lint.errors import UserError, suggest_name

_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def read_environment(
    environment: Mapping[str, str], prefix: str, defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What the variables say, by key, in the form of a configuration file; and the variable of each key.

    ``defaults`` are those of all keys that there is a variable for. An empty variable counts as not set. Raises
    UserError for one that is nearly, but not quite, called like ours.
    """
    known = {prefix + key.upper().replace("-", "_"): key for key in defaults}
    values: dict[str, Any] = {}
    variables: dict[str, str] = {}
    for name, text in sorted(environment.items()):
        key = known.get(name)
        if key is not None and text.strip():
            values[key], variables[key] = _parse_text(defaults[key], text.strip()), name
        elif name.startswith(prefix) and key is None and (near := suggest_name(name, known)):
            raise UserError(f"{name}: no such variable{near}; the variables are {', '.join(known)}.")
    return values, variables


def _parse_text(default: Any, text: str) -> Any:
    """A value of the kind of a default; what cannot be one is left as it is, for the reader to refuse."""
    if isinstance(default, tuple):
        return [item.strip() for item in text.split(",") if item.strip()]
    if isinstance(default, bool):
        return _FLAGS.get(text.lower(), text)
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            return text
    return text
