"""Keep results of the static stage by the content they were computed from, in a store that the outcome cache shares.

An entry is one small file, written to a temporary file and renamed, so that runs at the same time cannot harm each
other. Its name is a hash of the content and of everything else that the result depends on. An entry that cannot be
read counts as absent.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from theria_lint import __version__

if TYPE_CHECKING:
    from theria_lint.model import Suspect, Target
    from theria_lint.sources.owned_folder import Folder
    from theria_lint.static.module_uses import ModuleUse

_DAY = 24 * 3600
_MAX_AGE = 30 * _DAY
# What a clean content has: read without loading what the others need.
_EMPTY_ENTRY = b"[]"
_BROKEN = (TypeError, KeyError, ValueError)
"""What reading an entry raises that is not what was written."""


def get_user_cache_dir() -> str:
    """The directory where this platform keeps caches, with ours in it."""
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    return os.path.join(base, "theria-lint")


def compute_stamp(directories: Iterable[str], names: Iterable[str]) -> bytes:
    """What results depend on beside the content: our version, Python's, the rules and the code that applies them."""
    digest = hashlib.blake2b(f"{__version__} {sys.version_info[:2]} {sorted(names)}".encode(), digest_size=16)
    for directory in directories:
        for parent, below, files in os.walk(directory):
            below[:] = sorted(name for name in below if name != "__pycache__")
            for name in sorted(files):
                state = os.stat(os.path.join(parent, name))
                digest.update(f"{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.digest()


class Place(NamedTuple):
    """Where results are kept, and the place whose key they are signed with: a project can ship neither."""

    folder: str
    keys: str


def place_of(cache_dir: str | None, root: str) -> Place:
    """The place that settings name, or the user's own.

    What lies in a project, or where the linter runs, may have come with it: results there bear the mark of a key that
    lies with the user's.
    """
    from theria_lint.sources.owned_folder import is_within

    own = get_user_cache_dir()
    if cache_dir is None:
        return Place(own, own)
    brought = is_within(cache_dir, root) or is_within(cache_dir, os.getcwd())
    return Place(cache_dir, own if brought else cache_dir)


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
            folder, file = self._folder().below(name[:2]), f"{name[2:]}.json"
            mark, _, text = folder.read(file).partition(b"\n")
            if mark != self._mark(name, text):
                return None
            folder.use(file)
            return [] if text == _EMPTY_ENTRY else _parse_entry(text)
        except (OSError, ValueError, RecursionError):
            return None

    def store_entry(self, name: str, data: Any) -> None:
        """Keep data under a name."""
        import json

        try:
            folder = self._folder(make=True)
            text = json.dumps(data).encode()
            folder.below(name[:2], make=True).write(f"{name[2:]}.json", self._mark(name, text) + b"\n" + text)
            if not self._pruned:
                self._pruned = True
                self._prune_old_entries(folder)
        except (OSError, ValueError, RecursionError):
            return

    def _folder(self, *, make: bool = False) -> Folder:
        """Where the entries lie, open. OSError where that cannot be."""
        if self._opened is None:
            from theria_lint.sources.owned_folder import KEY, ours

            folder = ours(self._place.folder, make=make)
            self._key = ours(self._place.keys, make=make).read(KEY)
            self._opened = folder.below(self._kind, make=make)
        return self._opened

    def _mark(self, name: str, text: bytes) -> bytes:
        digest = hashlib.blake2b(f"{self._kind} {name}\n".encode(), digest_size=16, key=self._key)
        digest.update(text)
        return digest.hexdigest().encode()

    def _prune_old_entries(self, folder: Folder) -> None:
        """Once a day, drop the entries that no run has read for a month."""
        try:
            if folder.age("pruned") < _DAY:
                return
        except FileNotFoundError:
            pass
        folder.write("pruned", b"")
        folder.prune(_MAX_AGE)


class StaticCache:
    """What the static stage found, by content."""

    def __init__(self, place: Place, stamp: bytes) -> None:
        self._entries = EntryStore(place, "static")
        self._stamp = stamp

    def _make_entry_name(self, kind: str, data: bytes, asked: Iterable[str]) -> str:
        digest = hashlib.blake2b(data, digest_size=16, key=self._stamp)
        for name in asked:
            digest.update(b"\0" + name.encode("utf-8", "surrogatepass"))
        return f"{digest.hexdigest()}.{kind}"

    def load_suspects(self, path: str, data: bytes, roots: Iterable[str] = ()) -> tuple[Suspect, ...] | None:
        """What was stored for this content, as found in ``path``; None if nothing was.

        ``roots``: what other files were known to run of it.
        """
        rows = self._load_rows(_suspects(path), data, roots)
        try:
            return None if rows is None else tuple(_restore_suspect(path, row, len(data)) for row in rows)
        except _BROKEN:
            return None

    def load_targets(self, path: str, data: bytes) -> tuple[Target, ...] | None:
        """What was stored for this content, as found in ``path``; None if nothing was."""
        rows = self._load_rows("targets", data)
        try:
            return None if rows is None else tuple(_restore_target(path, row, len(data)) for row in rows)
        except _BROKEN:
            return None

    def load_module_use(self, data: bytes, name: str) -> ModuleUse | None:
        """What was stored for something in a module of this content; None if nothing was."""
        rows = self._load_rows("part", data, (name,))
        try:
            return None if rows is None else _part(rows)
        except _BROKEN:
            return None

    def store_suspects(self, path: str, data: bytes, suspects: Iterable[Suspect], roots: Iterable[str] = ()) -> None:
        """Keep the suspects of a content."""
        from dataclasses import asdict

        self._store_rows(_suspects(path), data, [asdict(item) for item in suspects], roots)

    def store_targets(self, data: bytes, targets: Iterable[Target]) -> None:
        """Keep the targets of a content, and not what they reach beyond it."""
        from dataclasses import asdict

        rows = [asdict(item) for item in targets]
        self._store_rows("targets", data, [{**row, "reaches": sorted(row["reaches"]), "beyond": []} for row in rows])

    def store_module_use(self, data: bytes, name: str, part: ModuleUse) -> None:
        """Keep what something in a module is."""
        self._store_rows("part", data, part, (name,))

    def _load_rows(self, kind: str, data: bytes, asked: Iterable[str] = ()) -> list[Any] | None:
        rows = self._entries.load_entry(self._make_entry_name(kind, data, asked))
        return rows if isinstance(rows, list) else None

    def _store_rows(self, kind: str, data: bytes, rows: Sequence[Any], asked: Iterable[str] = ()) -> None:
        self._entries.store_entry(self._make_entry_name(kind, data, asked), rows)


def _suspects(path: str) -> str:
    """The kind of entry: a notebook may have the same bytes as a module, and is read otherwise."""
    return "cells" if path.endswith(".ipynb") else "suspects"


def _parse_entry(text: bytes) -> Any:
    import json

    return json.loads(text)


def _restore_suspect(path: str, row: dict[str, Any], size: int) -> Suspect:
    """A suspect from its row; one of `_BROKEN` for what is none in a file of so many bytes."""
    from theria_lint.model import Span, Suspect

    first, last = row["reach"]
    suspect = Suspect(**{**row, "path": path, "span": Span(**row["span"]), "reach": (first, last)})
    span = suspect.span
    _texts(suspect.rule, suspect.name, suspect.severity, suspect.symbol, suspect.message, suspect.remedy)
    _texts(*() if suspect.neutraliser is None else (suspect.neutraliser,))
    _numbers(size, span.line, span.column, span.end_line, span.end_column, first, last)
    if suspect.severity not in ("error", "warning", "note") or suspect.cell is not None or span.end_line < span.line:
        raise ValueError("no suspect")
    return suspect


def _restore_target(path: str, row: dict[str, Any], size: int) -> Target:
    """A target from its row; one of `_BROKEN` for what is none in a file of so many bytes."""
    from theria_lint.model import Target, TargetKind

    kind, reaches = TargetKind(row["kind"]), frozenset(row["reaches"])
    target = Target(**{**row, "path": path, "kind": kind, "reaches": reaches, "beyond": frozenset()})
    _texts(target.symbol, *reaches)
    _numbers(size, target.line)
    return target


def _part(rows: list[Any]) -> ModuleUse:
    """A part from its fields; one of `_BROKEN` for what is none."""
    from theria_lint.static.module_uses import ModuleUse

    part = ModuleUse._make(tuple(row) if isinstance(row, list) else row for row in rows)
    for field, default in zip(part, ModuleUse(), strict=True):
        if type(field) is not type(default):
            raise TypeError("no part")
        _texts(*field if isinstance(field, tuple) else ())
    return part


def _texts(*values: object) -> None:
    if not all(type(value) is str for value in values):
        raise TypeError("no text")


def _numbers(size: int, *values: object) -> None:
    """Lines and columns of a file of so many bytes: none is further than the file is long, its end included."""
    if not all(type(value) is int and 0 < value <= size + 2 for value in values):
        raise ValueError("no place")
