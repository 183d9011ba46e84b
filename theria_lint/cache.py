"""Results of the static stage, kept by the content that they were computed from, and the files that hold results.

One small file an entry, written to a temporary file and renamed, so that runs at the same time cannot harm each other.
The name of an entry holds the content and everything that the result depends on; an entry that cannot be
read is no entry.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from theria_lint import __version__

if TYPE_CHECKING:
    from theria_lint.model import Suspect, Target
    from theria_lint.static.uses import Part

_DAY = 24 * 3600
_KEPT = 30 * _DAY
# What a clean content has: read without loading what the others need.
_NOTHING = b"[]"


def user_cache() -> str:
    """The directory where this platform keeps caches, with ours in it."""
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    return os.path.join(base, "theria-lint")


def stamp(directories: Iterable[str], names: Iterable[str]) -> bytes:
    """What results depend on beside the content: our version, Python's, the rules and the code that applies them."""
    digest = hashlib.blake2b(f"{__version__} {sys.version_info[:2]} {sorted(names)}".encode(), digest_size=16)
    for directory in directories:
        for parent, below, files in os.walk(directory):
            below[:] = sorted(name for name in below if name != "__pycache__")
            for name in sorted(files):
                state = os.stat(os.path.join(parent, name))
                digest.update(f"{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.digest()


class Entries:
    """JSON data by name under ``directory``; every failure to read or write leaves the run as it would be without."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._pruned = False

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name[:2], f"{name[2:]}.json")

    def load(self, name: str) -> Any:
        """What was stored under a name; None if nothing was, or nothing that can be read."""
        path = self._path(name)
        try:
            with open(path, "rb") as stream:
                text = stream.read()
            os.utime(path)
            return [] if text == _NOTHING else _parse(text)
        except (OSError, ValueError, RecursionError):
            return None

    def store(self, name: str, data: Any) -> None:
        """Keep data under a name."""
        import json

        from theria_lint.files import write_atomically

        path = self._path(name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_atomically(path, json.dumps(data).encode())
        except OSError:
            return
        if not self._pruned:
            self._pruned = True
            self._prune()

    def _prune(self) -> None:
        """Once a day, drop the entries that no run has read for a month."""
        from theria_lint.files import write_atomically

        marker = os.path.join(self._directory, "pruned")
        try:
            if os.path.exists(marker) and time.time() - os.stat(marker).st_mtime < _DAY:
                return
            write_atomically(marker, b"")
            for parent, _, files in os.walk(self._directory):
                for name in files:
                    _drop_old(os.path.join(parent, name))
        except OSError:
            return


class StaticCache:
    """What the static stage found, by content."""

    def __init__(self, directory: str, stamp: bytes) -> None:
        self._entries = Entries(os.path.join(directory, "static"))
        self._stamp = stamp

    def _name(self, kind: str, data: bytes, asked: Iterable[str]) -> str:
        digest = hashlib.blake2b(data, digest_size=16, key=self._stamp)
        for name in asked:
            digest.update(b"\0" + name.encode("utf-8", "surrogatepass"))
        return f"{digest.hexdigest()}.{kind}"

    def suspects(self, path: str, data: bytes, roots: Iterable[str] = ()) -> tuple[Suspect, ...] | None:
        """What was stored for this content, as found in ``path``; None if nothing was.

        ``roots``: what other files were known to run of it.
        """
        rows = self._load("suspects", data, roots)
        try:
            return None if rows is None else tuple(_suspect(path, row) for row in rows)
        except (TypeError, KeyError, ValueError):
            return None

    def targets(self, path: str, data: bytes) -> tuple[Target, ...] | None:
        """What was stored for this content, as found in ``path``; None if nothing was."""
        rows = self._load("targets", data)
        try:
            return None if rows is None else tuple(_target(path, row) for row in rows)
        except (TypeError, KeyError, ValueError):
            return None

    def part(self, data: bytes, name: str) -> Part | None:
        """What was stored for something in a module of this content; None if nothing was."""
        from theria_lint.static.uses import Part

        rows = self._load("part", data, (name,))
        try:
            return None if rows is None else Part._make(tuple(row) if isinstance(row, list) else row for row in rows)
        except TypeError:
            return None

    def store_suspects(self, data: bytes, suspects: Iterable[Suspect], roots: Iterable[str] = ()) -> None:
        """Keep the suspects of a content."""
        from dataclasses import asdict

        self._store("suspects", data, [asdict(item) for item in suspects], roots)

    def store_targets(self, data: bytes, targets: Iterable[Target]) -> None:
        """Keep the targets of a content, and not what they reach beyond it."""
        from dataclasses import asdict

        rows = [asdict(item) for item in targets]
        self._store("targets", data, [{**row, "reaches": sorted(row["reaches"]), "beyond": []} for row in rows])

    def store_part(self, data: bytes, name: str, part: Part) -> None:
        """Keep what something in a module is."""
        self._store("part", data, part, (name,))

    def _load(self, kind: str, data: bytes, asked: Iterable[str] = ()) -> list[Any] | None:
        rows = self._entries.load(self._name(kind, data, asked))
        return rows if isinstance(rows, list) else None

    def _store(self, kind: str, data: bytes, rows: Sequence[Any], asked: Iterable[str] = ()) -> None:
        self._entries.store(self._name(kind, data, asked), rows)


def _drop_old(path: str) -> None:
    if time.time() - os.stat(path).st_mtime > _KEPT:
        os.unlink(path)


def _parse(text: bytes) -> Any:
    import json

    return json.loads(text)


def _suspect(path: str, row: dict[str, Any]) -> Suspect:
    from theria_lint.model import Span, Suspect

    first, last = row["reach"]
    return Suspect(**{**row, "path": path, "span": Span(**row["span"]), "reach": (first, last)})


def _target(path: str, row: dict[str, Any]) -> Target:
    from theria_lint.model import Target, TargetKind

    kind, reaches = TargetKind(row["kind"]), frozenset(row["reaches"])
    return Target(**{**row, "path": path, "kind": kind, "reaches": reaches, "beyond": frozenset()})
