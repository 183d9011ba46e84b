"""What a client may set: initialization options, and ``workspace/didChangeConfiguration``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from theria_lint.errors import UserError

SECTION = "theria-lint"


class Options(NamedTuple):
    """``confirm``: run the code when it is saved, unless the configuration says no; ``show_cleared``: as hints."""

    confirm: bool = True
    show_cleared: bool = False


KEYS = {"confirm": "confirm", "showCleared": "show_cleared"}


def read_options(raw: object) -> Options:
    """The options in a JSON object, which may be wrapped in one with the key `SECTION`; the defaults for None.

    Raises UserError that names the key, the value and what is valid.
    """
    table = raw.get(SECTION, raw) if isinstance(raw, Mapping) else raw
    if table is None:
        return Options()
    if not isinstance(table, Mapping):
        raise UserError(f"The client's settings are {table!r}; expected an object with {', '.join(KEYS)}.")
    for key, value in table.items():
        if key not in KEYS:
            raise UserError(f"The client sets {key!r}, which is unknown; the settings are {', '.join(KEYS)}.")
        if not isinstance(value, bool):
            raise UserError(f"The client sets {key} to {value!r}; expected true or false.")
    return Options(**{KEYS[key]: value for key, value in table.items()})
