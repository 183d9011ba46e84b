"""Attention code in other files: what a target runs there, and the suspects in it.

A file that by itself is no attention code becomes some where a target of another file uses it. Files are followed by
their imports, as far as they are linted or belong to the target's own package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from theria_lint.config import Settings
from theria_lint.errors import SourceError
from theria_lint.result import LintError
from theria_lint.sources.source_text import ReadError, decode, read_bytes
from theria_lint.static.import_resolver import Modules, Thing
from theria_lint.static.module_uses import Part, read
from theria_lint.static.scan import scan_called
from theria_lint.static.scan_files import Scanned, Scanner, collections_seldom, plan_for

if TYPE_CHECKING:
    from theria_lint.model import Suspect, Target
    from theria_lint.static.module_uses import Uses

# So many trees are kept for the next question.
_TREES = 16
_STAR = re.compile(rb"import\s*\*")
# A name that stands for a member of itself (``import x; x = x.y``) has no end.
_DEEPEST = 8


def with_called(
    scanned: Sequence[Scanned], files: Sequence[str], settings: Settings, given: Collection[str] = ()
) -> list[Scanned]:
    """``scanned`` with what its targets run in other files: the suspects there, and in each target what it reaches.

    Files in ``given`` are not on the disk as they were scanned: nothing of them is run. Sorted by path. A file that is
    not among ``files`` is added where it holds suspects.
    """
    items = {item.path: item for item in scanned}
    starts = [item for item in scanned if item.targets and item.path not in given]
    if not starts:
        return list(scanned)
    code = _Code([path for path in files if path not in given], settings)
    roots: dict[str, set[str]] = {}
    with collections_seldom():
        for item in starts:
            items[item.path] = item._replace(targets=tuple(code.reach(target, roots) for target in item.targets))
        for path in roots.keys() - given:
            found = code.with_suspects(items.get(path, Scanned(path)), sorted(roots[path]))
            if found.suspects or found.errors:
                items[path] = found
    return [items[path] for path in sorted(items)]


class _Code:
    """The code of many files as one graph: from a thing that is used to the things that its code uses."""

    def __init__(self, linted: Sequence[str], settings: Settings) -> None:
        self._linted = frozenset(linted)
        self._modules = Modules(linted)
        self._uses = lru_cache(_TREES)(_uses)  # of a large package all would need gigabytes
        self._scanner = Scanner(plan_for(linted, 0, settings), {})
        self._files: dict[str, _File] = {}
        self._next: dict[Thing, list[Thing]] = {}

    def _file(self, path: str) -> _File:
        if path not in self._files:
            self._files[path] = _File(path, self._scanner, self._uses)
        return self._files[path]

    def reach(self, target: Target, roots: dict[str, set[str]]) -> Target:
        """A target with all that it may execute.

        Adds the files that it runs to ``roots``, each with the functions that it alone makes attention code.
        """
        start = Thing(target.path, target.symbol)
        seen, stack = {start}, list(self._steps(start))
        beyond: set[tuple[str, str]] = set()
        while stack:
            thing = stack.pop()
            if thing not in seen:
                seen.add(thing)
                part = self._file(thing.path).part(thing.name)
                roots.setdefault(thing.path, set()).update(() if part.is_attention else part.functions)
                beyond.update((thing.path, symbol) for symbol in (*part.functions, *part.classes))
                stack += self._steps(thing)
        own = {symbol for path, symbol in beyond if path == target.path}
        elsewhere = frozenset((path, symbol) for path, symbol in beyond if path != target.path)
        return replace(target, reaches=target.reaches | own, beyond=elsewhere)

    def _steps(self, thing: Thing) -> list[Thing]:
        """What the code of a thing uses in other files."""
        if thing not in self._next:
            part = self._file(thing.path).part(thing.name)
            found = [used for path in part.imports for used in self._defined(thing.path, path, set())]
            self._next[thing] = [step for used in found for step in (used, *self._methods(used, part.called))]
        return self._next[thing]

    def _methods(self, used: Thing, called: Collection[str]) -> Iterator[Thing]:
        """The methods of a class that code which uses it may call on an instance."""
        methods = self._file(used.path).part(used.name).methods
        return (Thing(used.path, f"{used.name}.{name}") for name in methods if name in called)

    def _defined(self, importer: str, path: str, seen: set[Thing]) -> list[Thing]:
        """Where the thing is defined that a file imports by a dotted path, behind all re-exports."""
        things = [thing for thing in self._modules.find(importer, path) if thing.name.count(".") <= _DEEPEST]
        for thing in things:
            if thing not in seen:
                seen.add(thing)
                part = self._file(thing.path).part(thing.name)
                if part.known:
                    found = [thing] if part.functions or part.classes or part.imports else []
                    return found + [more for other in part.elsewhere for more in self._defined(thing.path, other, seen)]
        for other in self._file(things[0].path).part(things[0].name).stars if things else ():
            if found := self._defined(things[0].path, other, seen):
                return found
        return []

    def with_suspects(self, item: Scanned, roots: Sequence[str]) -> Scanned:
        """What a file holds, if other files run these functions of it; without any, a linted file is as it was."""
        return self._file(item.path).with_suspects(item, roots) if roots or item.path not in self._linted else item


class _File:
    """One file, read when it is first asked about."""

    def __init__(self, path: str, scanner: Scanner, uses: Callable[[bytes], Uses | None]) -> None:
        self._path = path
        self._scanner = scanner
        self._uses = uses
        self._parts: dict[str, Part] = {}

    @cached_property
    def _data(self) -> bytes | None:
        try:
            return read_bytes(self._path)
        except ReadError:
            return None

    def part(self, name: str) -> Part:
        """What something in the file is."""
        if name not in self._parts:
            self._parts[name] = self._find_part(name)
        return self._parts[name]

    def _find_part(self, name: str) -> Part:
        cache = self._scanner.cache
        if self._data is None or not _may_know(self._data, name):
            return Part()
        known = cache.part(self._data, name) if cache else None
        if known is not None:
            return known
        uses = self._uses(self._data)
        found = uses.part(name) if uses else Part()
        if cache:
            cache.store_part(self._data, name, found)
        return found

    def with_suspects(self, item: Scanned, roots: Sequence[str]) -> Scanned:
        """The file with the suspects that it holds if other files run these functions of it."""
        if self._data is None:
            return item
        try:
            text = decode(self._data)
            suspects = self._suspects(self._data, text, roots)
        except (ReadError, SourceError) as error:
            return item._replace(errors=(LintError(self._path, error.line, error.message),))
        return item._replace(suspects=suspects, texts=item.texts or {None: text}) if suspects else item

    def _suspects(self, data: bytes, text: str, roots: Sequence[str]) -> tuple[Suspect, ...]:
        cache = self._scanner.cache
        known = cache.suspects(self._path, data, roots) if cache else None
        if known is not None:
            return known
        found = scan_called(self._path, text, self._scanner.rules, roots)
        if cache:
            cache.store_suspects(self._path, data, found, roots)
        return found


def _uses(data: bytes) -> Uses | None:
    """None for a file that cannot be read: `scan_files` says why, if it is linted."""
    try:
        return read(decode(data))
    except (ReadError, SourceError, RecursionError, MemoryError):
        return None


def _may_know(data: bytes, name: str) -> bool:
    """Whether a file's text holds a name, or may have it from another module without saying it."""
    return name.partition(".")[0].encode() in data or _STAR.search(data) is not None
