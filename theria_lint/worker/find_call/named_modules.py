"""Load what a recorded call names and the import of its target has not loaded: modules of the target's own package.

A test builds modules of classes of its own, which nobody else imports. They are loaded in the sandbox, as whatever the
package imports is; of another package nothing is loaded, for a call may come from elsewhere.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

_NAMING = ("class", "function", "member")
"""The keys of a tree under which something stands by its name."""


def load_named_modules(document: Any, home: str) -> None:
    """Import the modules that a call names, if they are of the package of ``home``, its target's module."""
    package, _, rest = home.partition(".")
    for name in sorted(set(_iter_module_names(document))) if rest else ():
        if name.partition(".")[0] == package and name not in sys.modules:
            with suppress(Exception):  # the call that needs it says that it is not there
                importlib.import_module(name)


def _iter_module_names(tree: Any) -> Iterator[str]:
    if isinstance(tree, list):
        for part in tree:
            yield from _iter_module_names(part)
    if isinstance(tree, dict):
        for key, part in tree.items():
            if key in _NAMING and isinstance(part, str):
                yield part.partition(":")[0]
            else:
                yield from _iter_module_names(part)
