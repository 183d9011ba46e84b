"""Keep results between runs, by name: the store that the caches of both stages share.

An entry is one small file, written to a temporary file and renamed, so that runs at the same time cannot harm each
other. Its name is a hash of everything that the result depends on. An entry that cannot be
read counts as absent.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from theria_lint import __version__

if TYPE_CHECKING:
    from theria_lint.sources.owned_folder import Folder

_DAY = 24 * 3600
_MAX_AGE = 30 * _DAY
# What a clean content has: read without loading what the others need.
_EMPTY_ENTRY = b"[]"


def compute_stamp(directories: Iterable[str], names: Iterable[str], rule_paths: Iterable[str] = ()) -> bytes:
    """What results depend on beside the content: our version, Python's, the rules and the code that applies them.

    ``rule_paths`` are the user's own: nothing but rules is looked at there, whatever else there is.
    """
    digest = hashlib.blake2b(f"{__version__} {sys.version_info[:2]} {sorted(names)}".encode(), digest_size=16)
    for directory in directories:
        for parent, below, files in os.walk(directory):
            below[:] = sorted(name for name in below if name != "__pycache__")
            for name in sorted(files):
                state = os.stat(os.path.join(parent, name))
                digest.update(f"{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    for base in rule_paths:
        with suppress(OSError):  # that there is no such folder is told where the rules are loaded
            for folder in ("", *sorted(os.listdir(base))):
                with suppress(OSError):
                    state = os.stat(os.path.join(base, folder, "rule.toml"))
                    digest.update(f"{folder!r} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.digest()


class Place(NamedTuple):
    """Where results are kept, and the place whose key they are signed with: a project can ship neither."""

    folder: str
    keys: str


def place_of(cache_dir: str | None, linted: Iterable[str]) -> Place:
    """The place that settings name, or the user's own; ``linted`` are the configuration's folder and what is linted.

    What lies in there, or where the linter runs, may have come with a project: results there bear the mark of a key
    that lies with the user's.
    """
    from theria_lint.sources.owned_folder import get_cache_folder, is_within

    own = get_cache_folder()
    if cache_dir is None:
        return Place(own, own)
    folders = {os.path.dirname(path) if os.path.isfile(path) else path for path in linted}
    brought = any(is_within(cache_dir, folder) for folder in (os.getcwd(), *folders))
    return Place(cache_dir, own if brought else cache_dir)


KINDS = ("static", "dynamic")
"""What entries are of: one for each stage."""


class Removal(NamedTuple):
    """How many entries were removed, of how many bytes, and how many files are left that we cannot have written."""

    entries: int = 0
    size: int = 0
    left: int = 0


class EntryStore:
    """JSON data of one kind by name; every failure to read or write leaves the run as it would be without.

    An entry begins with a digest of its name and data under our key: what others have put there is no entry.
    """

    def __init__(self, place: Place, kind: str) -> None:
        self._place = place
        self._kind = kind
        self._key = b""
        self._opened: Folder | None = None
        self._pruned = False

    def load_entry(self, name: str) -> Any:
        """What was stored under a name; None if nothing was, or nothing that can be read."""
        try:
            folder, file = self._folder().open_below(name[:2]), f"{name[2:]}.json"
            mark, _, text = folder.read(file).partition(b"\n")
            if mark != self._mark(name, text):
                return None
            folder.mark_used(file)
            return [] if text == _EMPTY_ENTRY else _parse_entry(text)
        except (OSError, ValueError, RecursionError):
            return None

    def store_entry(self, name: str, data: Any) -> None:
        """Keep data under a name."""
        import json

        try:
            folder = self._folder(make=True)
            text = json.dumps(data).encode()
            folder.open_below(name[:2], make=True).write(f"{name[2:]}.json", self._mark(name, text) + b"\n" + text)
            if not self._pruned:
                self._pruned = True
                self._prune_old_entries(folder)
        except (OSError, ValueError, RecursionError):
            return

    def remove_entries(self) -> Removal:
        """Remove what bears our mark, and folders that are empty then. OSError where no folder of ours is."""
        opened, removed, size, left = self._folder(without_key=True), 0, 0, 0
        for half, folder in opened.iter_halves():
            for file in folder.list_names():
                try:
                    mark, _, text = folder.read(file).partition(b"\n")
                    if mark != self._mark(half + file.removesuffix(".json"), text):
                        raise OSError(file)
                    folder.remove(file)
                    removed, size = removed + 1, size + len(mark) + 1 + len(text)
                except OSError:
                    left += 1
            opened.remove_empty(half)
        return Removal(removed, size, left)

    def _folder(self, *, make: bool = False, without_key: bool = False) -> Folder:
        """Where the entries lie, open; where there is no key, with one that fits none. OSError where that cannot be."""
        if self._opened is None:
            from theria_lint.sources.owned_folder import KEY, open_own_folder

            folder = open_own_folder(self._place.folder, make=make)
            try:
                self._key = open_own_folder(self._place.keys, make=make).read(KEY)
            except OSError:
                if not without_key:
                    raise
                self._key = os.urandom(32)
            self._opened = folder.open_below(self._kind, make=make)
        return self._opened

    def _mark(self, name: str, text: bytes) -> bytes:
        digest = hashlib.blake2b(f"{self._kind} {name}\n".encode(), digest_size=16, key=self._key)
        digest.update(text)
        return digest.hexdigest().encode()

    def _prune_old_entries(self, folder: Folder) -> None:
        """Once a day, drop the entries that no run has read for a month."""
        try:
            if folder.get_age("pruned") < _DAY:
                return
        except FileNotFoundError:
            pass
        folder.write("pruned", b"")
        folder.remove_older(_MAX_AGE)


def _parse_entry(text: bytes) -> Any:
    import json

    return json.loads(text)
