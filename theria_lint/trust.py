"""Which interpreters a project may choose: those that the user has trusted, for that project and by their place.

What is trusted is kept in the user's own configuration folder, never in a project.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NamedTuple

from theria_lint.errors import UserError
from theria_lint.files import write_atomically
from theria_lint.reading import ReadError, read_up_to

_LARGEST = 1024 * 1024
_FILE = "trusted.json"


class Grant(NamedTuple):
    """A project's root, the interpreter that it may choose, and the file behind that: a change of one asks anew."""

    root: str
    python: str
    program: str


def grant_for(root: str, python: str) -> Grant:
    """What there is to trust about an interpreter."""
    return Grant(os.path.realpath(root), os.path.abspath(python), os.path.realpath(python))


def is_trusted(grant: Grant) -> bool:
    """Whether the user has trusted exactly this. A project that holds the user's configuration trusts itself: never."""
    path = os.path.join(_folder(), _FILE)
    inside = os.path.realpath(path).startswith(os.path.join(grant.root, ""))
    return not inside and grant in _read(path)


def remember(grant: Grant) -> None:
    """Trust it from now on. Raises UserError."""
    path = os.path.join(_folder(), _FILE)
    if os.path.realpath(path).startswith(os.path.join(grant.root, "")):
        raise UserError(f"{grant.root}: holds your configuration folder and cannot be trusted; use --python instead.")
    grants = sorted({*_read(path), grant})
    document = {"trusted": [found._asdict() for found in grants]}
    try:
        os.makedirs(_folder(), 0o700, exist_ok=True)
        write_atomically(path, json.dumps(document, indent=2).encode("utf-8", "surrogatepass") + b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; use --python instead.") from None


def _read(path: str) -> set[Grant]:
    """The grants in a file; what is no grant is none."""
    try:
        document = json.loads(read_up_to(_LARGEST, path, "what is read."))
        found = {Grant(item["root"], item["python"], item["program"]) for item in document["trusted"]}
        return {grant for grant in found if all(isinstance(part, str) for part in grant)}
    except (ReadError, ValueError, TypeError, KeyError, RecursionError):
        return set()


def _folder() -> str:
    """The folder where this platform keeps a user's configuration, with ours in it."""
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        base = os.environ.get("APPDATA") or os.path.join(home, "AppData", "Roaming")
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Application Support")
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or ""
        base = base if os.path.isabs(base) else os.path.join(home, ".config")
    return os.path.join(base, "theria-lint")
