"""What files and folders of modules are now, in a form in which a later run can tell whether they still are that."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from theria_lint.dynamic.protocol import Reads

Snapshot = dict[str, Any]
"""The states of what ``Reads`` names, as JSON data."""

_TOO_MANY = 50_000


class TooNewError(Exception):
    """A file has changed since what was read of it was read: nobody knows what that was."""


class States:
    """Looks at files; contents are read once a run, and again when a file has changed meanwhile.

    The state of a file is its size, the time of its last change and a digest of its content. That time (``ctime``)
    cannot be set back, so a file of which both are the same is the same; where only the time differs, the content
    decides. What is no regular file has the state None.
    """

    def __init__(self) -> None:
        """Nothing is known."""
        self._digests: dict[tuple[str, int, int], str] = {}
        self._checked: dict[tuple[str, str], bool] = {}

    def take(self, reads: Reads, before: int, *, contents: bool = True) -> Snapshot:
        """The states of what was read before the given time (nanoseconds since the epoch).

        Without ``contents`` a file is held to be another one as soon as its time of change is.

        Raises:
            TooNewError: if a file is newer.
            ValueError: if the paths make no sense.
        """
        if len(reads.files) + len(reads.searched) > _TOO_MANY:
            raise ValueError("nothing reads so many files")
        files = {path: self._file(path, before, contents) for path in reads.files}
        return {"files": files, "folders": {f: [sorted(n), _entries(f, n)] for f, n in reads.searched.items()}}

    def are_still(self, snapshot: Snapshot) -> bool:
        """Whether everything is as it was. KeyError, TypeError or ValueError for what is no snapshot."""
        return all(self._checks("file", path, old) for path, old in snapshot["files"].items()) and all(
            self._checks("folder", path, old) for path, old in snapshot["folders"].items()
        )

    def _checks(self, kind: str, path: str, old: Any) -> bool:
        key = (path, repr(old))
        if key not in self._checked:
            self._checked[key] = self._is_still(path, old) if kind == "file" else bool(_entries(path, old[0]) == old[1])
        return self._checked[key]

    def _is_still(self, path: str, old: tuple[int, int, str] | None) -> bool:
        now = _regular(path)
        if now is None or old is None:
            return now is None and old is None
        size, changed, digest = old
        if now.st_size != size or not (digest or now.st_ctime_ns == changed):
            return False
        return now.st_ctime_ns == changed or self._digest(path, now) == digest

    def _file(self, path: str, before: int, contents: bool) -> list[Any] | None:
        now = _regular(path)
        if now is None:
            return None
        if now.st_ctime_ns >= before:
            raise TooNewError(path)
        return [now.st_size, now.st_ctime_ns, self._digest(path, now) if contents else ""]

    def _digest(self, path: str, now: os.stat_result) -> str:
        key = (path, now.st_size, now.st_ctime_ns)
        if key not in self._digests:
            found = blake2b(digest_size=16)
            with open(path, "rb") as stream:
                while piece := stream.read(1 << 20):
                    found.update(piece)
            self._digests[key] = found.hexdigest()
        return self._digests[key]


def _regular(path: str) -> os.stat_result | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _entries(folder: str, names: Iterable[str]) -> list[str] | None:
    """What a folder holds that an import of one of the names may find, or that adds to the path of an interpreter."""
    wanted = frozenset(names)
    try:
        found = os.listdir(folder)
    except OSError:
        return None
    return sorted(entry for entry in found if entry.partition(".")[0] in wanted or entry.endswith(".pth"))
