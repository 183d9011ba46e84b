"""Follow targets into other files: what they may execute there, and the suspects in it.

A file without attention code of its own has some where a target of another file uses it. Imports are followed into
linted files and into the package of the importing file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from theria_lint.config import Settings
from theria_lint.errors import ReadError, SourceError
from theria_lint.result import ScannedFile, make_file_error
from theria_lint.sources.source_text import decode_source, read_bytes
from theria_lint.static.import_resolver import ImportResolver, SymbolRef
from theria_lint.static.module_uses import ModuleUse, read_module_uses
from theria_lint.static.scan import scan_called_functions
from theria_lint.static.scan_files import FILE_SECONDS, Scanner, collect_garbage_rarely, make_scan_config, read_or_none
from theria_lint.time_limit import OutOfTimeError, limit_processor_time

if TYPE_CHECKING:
    from theria_lint.model import Suspect, Target
    from theria_lint.static.module_uses import ModuleUseFinder

# So many trees are kept for the next question.
_MAX_CACHED_TREES = 16
_STAR = re.compile(rb"import\s*\*")


def link_calls(
    scanned: Sequence[ScannedFile], files: Sequence[str], settings: Settings, given: Collection[str] = ()
) -> list[ScannedFile]:
    """``scanned`` with what its targets run in other files: the suspects there, and in each target what it reaches.

    Files in ``given`` are not on the disk as they were scanned: nothing of them is run. Sorted by path. A file that is
    not among ``files`` is added where it holds suspects.
    """
    items = {item.path: item for item in scanned}
    starts = [item for item in scanned if item.targets and item.path not in given]
    if not starts:
        return list(scanned)
    code = _CodeGraph([path for path in files if path not in given], settings)
    roots = {item.path: set(item.roots) for item in starts if item.roots}
    with collect_garbage_rarely():
        for item in starts:
            items[item.path] = item._replace(
                targets=tuple(code.extend_target(target, roots) for target in item.targets)
            )
        for path in roots.keys() - given:
            found = code.add_suspects(items.get(path, ScannedFile(path)), sorted(roots[path]))
            if found.suspects or found.errors:
                items[path] = found
    return [items[path] for path in sorted(items)]


def add_suspects_of_owners(
    scanned: Sequence[ScannedFile], files: Sequence[str], settings: Settings
) -> list[ScannedFile]:
    """``scanned`` with the suspects in what the owners of attention of other files run of their own.

    And in the methods that a base in another file calls on its heirs, in both files.
    """
    code = _CodeGraph(files, settings)
    roots = {item.path: set(item.roots) for item in scanned}
    for item in filter(code.may_hold_more, scanned):
        for target in item.targets:
            for path, symbols in code.iter_called_on_heirs(target) if target.left_to_bases else ():
                roots.setdefault(path, set()).update(symbols)
    items = {item.path: item for item in scanned}
    linted = sorted(roots.keys() & {*files})
    found = [code.add_suspects(items.get(path, ScannedFile(path)), sorted(roots[path])) for path in linted]
    items |= {item.path: item for item in found if item.path in items or item.suspects or item.errors}
    return [items[path] for path in sorted(items)]


class _CodeGraph:
    """The code of many files as one graph: from a thing that is used to the things that its code uses."""

    def __init__(self, linted: Sequence[str], settings: Settings) -> None:
        self._linted = frozenset(linted)
        self._modules = ImportResolver(linted)
        self._uses = lru_cache(_MAX_CACHED_TREES)(_read_uses_or_none)  # of a large package all would need gigabytes
        self._scanner = Scanner(make_scan_config(linted, 0, settings), {})
        self._files: dict[str, _LinkedFile] = {}
        self._used: dict[SymbolRef, list[SymbolRef]] = {}
        self._lines: dict[SymbolRef, dict[SymbolRef, None]] = {}
        self._next: dict[SymbolRef, list[SymbolRef]] = {}

    def _get_file(self, path: str) -> _LinkedFile:
        if path not in self._files:
            self._files[path] = _LinkedFile(path, self._scanner, self._uses)
        return self._files[path]

    def extend_target(self, target: Target, roots: dict[str, set[str]]) -> Target:
        """A target with all that it may execute.

        Adds the files that it runs to ``roots``, each with the functions that it alone makes attention code.
        """
        start = SymbolRef(target.path, target.symbol)
        seen, stack = {start}, list(self._list_next_symbols(start))
        beyond: set[tuple[str, str]] = set()
        while stack:
            ref = stack.pop()
            if ref not in seen:
                seen.add(ref)
                module_use = self._get_file(ref.path).get_module_use(ref.name)
                roots.setdefault(ref.path, set()).update(() if module_use.is_attention else module_use.functions)
                beyond.update((ref.path, symbol) for symbol in (*module_use.functions, *module_use.classes))
                stack += self._list_next_symbols(ref)
        own = {symbol for path, symbol in beyond if path == target.path}
        elsewhere = frozenset((path, symbol) for path, symbol in beyond if path != target.path)
        return replace(target, reaches=target.reaches | own, beyond=elsewhere)

    def may_hold_more(self, item: ScannedFile) -> bool:
        """Whether a file holds more suspects if bases in other files, which take long to read, call its methods."""
        left = {symbol for target in item.targets for symbol in target.left_to_bases}
        return bool(left) and self.add_suspects(item, sorted({*item.roots, *left})).suspects != item.suspects

    def iter_called_on_heirs(self, target: Target) -> Iterator[tuple[str, tuple[str, ...]]]:
        """By path: what runs of a class and its bases because one of these, in another file, calls it."""
        for ref in self._list_called_on_heirs(SymbolRef(target.path, target.symbol)):
            module_use = self._get_file(ref.path).get_module_use(ref.name)
            if not module_use.is_attention:
                yield ref.path, module_use.functions

    def _list_next_symbols(self, ref: SymbolRef) -> list[SymbolRef]:
        """What the code of a thing uses in other files, and what that calls on the thing in turn."""
        if ref not in self._next:
            self._next[ref] = [*self._list_used(ref), *self._list_called_on_heirs(ref)]
        return self._next[ref]

    def _list_called_on_heirs(self, ref: SymbolRef) -> list[SymbolRef]:
        """What runs of a class and its bases in other files, when these call members of their own instance."""
        line = self._collect_line(_get_owner(ref))
        seen, stack = {ref}, [ref] if len(line) > 1 else []
        found: list[SymbolRef] = []
        while stack:
            step = stack.pop()
            inherited = (used for used in self._list_used(step) if _get_owner(used) in line)
            fresh = [one for one in (*inherited, *self._iter_members_called(step, line)) if one not in seen]
            seen.update(fresh)
            stack += fresh
            found += fresh
        return found

    def _iter_members_called(self, step: SymbolRef, line: Collection[SymbolRef]) -> Iterator[SymbolRef]:
        """What the members that a method uses of its instance may mean, for heirs and bases in other files."""
        names = self._get_file(step.path).get_module_use(step.name).used_of_itself
        for up in line:
            if up != _get_owner(step):
                methods = self._get_file(up.path).get_module_use(up.name).methods
                yield from (SymbolRef(up.path, f"{up.name}.{name}") for name in names if name in methods)

    def _collect_line(self, owner: SymbolRef) -> dict[SymbolRef, None]:
        """A class, and those of other files that it inherits from."""
        if owner not in self._lines:
            line, stack = {owner: None}, [owner]
            while stack:
                heir = stack.pop()
                for base in self._get_file(heir.path).get_module_use(heir.name).bases:
                    fresh = [ref for ref in self._find_definitions(heir.path, base, set()) if ref not in line]
                    line |= dict.fromkeys(fresh)
                    stack += fresh
            self._lines[owner] = line
        return self._lines[owner]

    def _list_used(self, ref: SymbolRef) -> list[SymbolRef]:
        if ref not in self._used:
            module_use = self._get_file(ref.path).get_module_use(ref.name)
            paths = (*module_use.imports, *module_use.elsewhere)  # a target may be no more than a name for another's
            found = [used for path in paths for used in self._find_definitions(ref.path, path, set())]
            self._used[ref] = [
                step for used in found for step in (used, *self._iter_called_methods(used, module_use.called))
            ]
        return self._used[ref]

    def _iter_called_methods(self, used: SymbolRef, called: Collection[str]) -> Iterator[SymbolRef]:
        """The methods of a class that code which uses it may call on an instance."""
        methods = self._get_file(used.path).get_module_use(used.name).methods
        return (SymbolRef(used.path, f"{used.name}.{name}") for name in methods if name in called)

    def _find_definitions(self, importer: str, path: str, seen: set[SymbolRef]) -> list[SymbolRef]:
        """Where the thing is defined that a file imports by a dotted path, behind all re-exports."""
        refs = self._modules.resolve_import(importer, path)
        for ref in refs:
            if ref not in seen:
                seen.add(ref)
                module_use = self._get_file(ref.path).get_module_use(ref.name)
                if module_use.known:
                    found = [ref] if module_use.functions or module_use.classes or module_use.imports else []
                    return found + [
                        more for other in module_use.elsewhere for more in self._find_definitions(ref.path, other, seen)
                    ]
        for other in self._get_file(refs[0].path).get_module_use(refs[0].name).stars if refs else ():
            if found := self._find_definitions(refs[0].path, other, seen):
                return found
        return []

    def add_suspects(self, item: ScannedFile, roots: Sequence[str]) -> ScannedFile:
        """What a file holds, if other files run these functions of it; without any, a linted file is as it was."""
        return (
            self._get_file(item.path).add_own_suspects(item, roots) if roots or item.path not in self._linted else item
        )


class _LinkedFile:
    """One file, read when it is first asked about."""

    def __init__(self, path: str, scanner: Scanner, uses: Callable[[bytes], ModuleUseFinder | None]) -> None:
        self._path = path
        self._scanner = scanner
        self._uses = uses
        self._module_uses: dict[str, ModuleUse] = {}

    @cached_property
    def _data(self) -> bytes | None:
        try:
            return read_bytes(self._path)
        except ReadError:
            return None

    def get_module_use(self, name: str) -> ModuleUse:
        """What something in the file is."""
        if name not in self._module_uses:
            self._module_uses[name] = self._find_module_use(name)
        return self._module_uses[name]

    def _find_module_use(self, name: str) -> ModuleUse:
        cache = self._scanner.cache
        if self._data is None or not _may_know_name(self._data, name):
            return ModuleUse()
        known = cache.load_module_use(self._data, name) if cache else None
        if known is not None:
            return known
        uses = self._uses(self._data)
        found = uses.find_module_use(name) if uses else ModuleUse()
        if cache:
            cache.store_module_use(self._data, name, found)
        return found

    def add_own_suspects(self, item: ScannedFile, roots: Sequence[str]) -> ScannedFile:
        """The file with the suspects that it holds if other files run these functions of it."""
        if self._data is None:
            return item
        try:
            with limit_processor_time(FILE_SECONDS):
                text = decode_source(self._data)
                suspects = self._find_suspects(self._data, text, roots)
        except OutOfTimeError:
            return item._replace(
                errors=(make_file_error(self._path, SourceError("too_slow_to_check", seconds=FILE_SECONDS)),)
            )
        except (ReadError, SourceError) as error:
            return item._replace(errors=(make_file_error(self._path, error),))
        return item._replace(suspects=suspects, texts=item.texts or {None: text}) if suspects else item

    def _find_suspects(self, data: bytes, text: str, roots: Sequence[str]) -> tuple[Suspect, ...]:
        cache = self._scanner.cache
        known = cache.load_suspects(self._path, data, roots) if cache else None
        if known is not None:
            return known
        found = scan_called_functions(self._path, text, self._scanner.rules, roots)
        if cache:
            cache.store_suspects(self._path, data, found, roots)
        return found


def _get_owner(ref: SymbolRef) -> SymbolRef:
    """The class that a member belongs to; what is no member itself."""
    return SymbolRef(ref.path, ref.name.partition(".")[0])


def _read_uses_or_none(data: bytes) -> ModuleUseFinder | None:
    return read_or_none(lambda: read_module_uses(decode_source(data)))


def _may_know_name(data: bytes, name: str) -> bool:
    """Whether a file's text holds a name, or may have it from another module without saying it."""
    return name.partition(".")[0].encode() in data or _STAR.search(data) is not None
