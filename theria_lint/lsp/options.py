"""What a client may set: initialization options, and ``workspace/didChangeConfiguration``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from theria_lint.errors import UserError

SECTION = "theria-lint"
"""The key under which a client keeps our settings beside those of others."""


class Options(NamedTuple):
    """``confirm``: run the code when it is saved, unless the configuration says no; ``show_cleared``: as hints."""

    confirm: bool = True
    show_cleared: bool = False


KEYS = {"confirm": "confirm", "showCleared": "show_cleared"}


def read_options(table: object, before: Options) -> Options:
    """The options of a JSON object; what it does not set stays as it was ``before``.

    Raises UserError that names the key, the value and what is valid.
    """
    if not isinstance(table, Mapping):
        raise UserError(f"The client's settings are {table!r}; expected an object with {', '.join(KEYS)}.")
    for key, value in table.items():
        if key not in KEYS:
            raise UserError(f"The client sets {key!r}, which is unknown; the settings are {', '.join(KEYS)}.")
        if not isinstance(value, bool):
            raise UserError(f"The client sets {key} to {value!r}; expected true or false.")
    return before._replace(**{KEYS[key]: value for key, value in table.items()})
