"""Where this platform keeps what programs keep for a user: caches and configuration.

As platformdirs has it, which is not imported: it takes longer than a run on a clean file does with everything else.
"""

from __future__ import annotations

import os
import sys

_NAME = "theria-lint"


def get_cache_folder() -> str:
    """The folder for caches, with ours in it."""
    return _find_folder("LOCALAPPDATA", ("AppData", "Local"), "Caches", "XDG_CACHE_HOME", ".cache")


def get_configuration_folder() -> str:
    """The folder for a user's configuration, with ours in it."""
    return _find_folder("APPDATA", ("AppData", "Roaming"), "Application Support", "XDG_CONFIG_HOME", ".config")


def _find_folder(variable: str, windows: tuple[str, ...], macos: str, xdg_variable: str, xdg: str) -> str:
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        return os.path.join(os.environ.get(variable) or os.path.join(home, *windows), _NAME)
    if sys.platform == "darwin":
        return os.path.join(home, "Library", macos, _NAME)
    named = os.environ.get(xdg_variable, "")
    # A relative one would mean a folder in whatever project is linted: by the specification it counts as not set.
    return os.path.join(named if os.path.isabs(named) else os.path.join(home, xdg), _NAME)
