"""Keep what the static stage found by the content that it was computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from theria_lint.cache import EntryStore, Place

if TYPE_CHECKING:
    from theria_lint.model import Suspect, Target
    from theria_lint.static.module_uses import ModuleUse

_BROKEN = (TypeError, KeyError, ValueError)
"""What reading an entry raises that is not what was written."""

_SETS = ("reaches", "needs", "left_to_bases")
"""The fields of a target that are kept, and are sets of names."""


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

    def load_targets(self, path: str, data: bytes, named: Iterable[str] = ()) -> tuple[Target, ...] | None:
        """What was stored for this content, as found in ``path``; None if nothing was.

        ``named``: what the configuration calls targets.
        """
        rows = self._load_rows("targets", data, named)
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

    def store_targets(self, data: bytes, targets: Iterable[Target], named: Iterable[str] = ()) -> None:
        """Keep the targets of a content, and not what they reach beyond it."""
        from dataclasses import asdict

        rows = [asdict(item) for item in targets]
        rows = [{**row, **{name: sorted(row[name]) for name in _SETS}, "beyond": []} for row in rows]
        self._store_rows("targets", data, rows, named)

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


def _restore_suspect(path: str, row: dict[str, Any], size: int) -> Suspect:
    """A suspect from its row; one of `_BROKEN` for what is none in a file of so many bytes."""
    from theria_lint.model import Span, Suspect

    first, last = row["reach"]
    suspect = Suspect(**{**row, "path": path, "span": Span(**row["span"]), "reach": (first, last)})
    span = suspect.span
    _texts(suspect.rule, suspect.name, suspect.severity, suspect.symbol, suspect.message, suspect.remedy)
    _texts(*(text for text in (suspect.neutraliser, suspect.variant) if text is not None))
    _numbers(size, span.line, span.column, span.end_line, span.end_column, first, last)
    if suspect.severity not in ("error", "warning", "note") or suspect.cell is not None or span.end_line < span.line:
        raise ValueError("no suspect")
    return suspect


def _restore_target(path: str, row: dict[str, Any], size: int) -> Target:
    """A target from its row; one of `_BROKEN` for what is none in a file of so many bytes."""
    from theria_lint.model import Target, TargetKind

    sets = {name: frozenset(row[name]) for name in _SETS}
    target = Target(**{**row, **sets, "path": path, "kind": TargetKind(row["kind"]), "beyond": frozenset()})
    _texts(target.symbol, *(name for found in sets.values() for name in found))
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
