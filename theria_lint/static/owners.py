"""Find the targets that run attention of other files, under names that do not tell: owners of it, and its callers."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from theria_lint.model import TargetKind
from theria_lint.sources.source_text import decode_source, parse_python, read_bytes
from theria_lint.static.foreign_uses import INSTANCE
from theria_lint.static.import_resolver import ImportResolver, SymbolRef
from theria_lint.static.scan_files import (
    Scanner,
    collect_garbage_rarely,
    list_entry_symbols,
    make_scan_config,
    read_or_none,
)
from theria_lint.static.scopes import NameTable

if TYPE_CHECKING:
    from theria_lint.config import Settings
    from theria_lint.model import Target
    from theria_lint.result import ScannedFile

_CALLED_KINDS = (TargetKind.FUNCTION, TargetKind.WRAPPER)


def add_owners(
    scanned: Sequence[ScannedFile], files: Sequence[str], settings: Settings, given: Collection[str] = ()
) -> list[ScannedFile]:
    """``scanned`` with those of its candidates among the targets that run attention of other files.

    Their suspects are added by `cross_file`.
    """
    if not any(item.candidates for item in scanned):
        return list(scanned)
    with collect_garbage_rarely():
        finder = _OwnerFinder(scanned, [path for path in files if path not in given], settings)
        return [finder.add_targets(item) if item.candidates else item for item in scanned]


class _Known(NamedTuple):
    """What is a target of a file, and what may be, by symbol."""

    targets: dict[str, Target]
    candidates: dict[str, Target]


class _OwnerFinder:
    """Follows what candidates need to the files that define it, and from there to what these need."""

    def __init__(self, scanned: Sequence[ScannedFile], files: Sequence[str], settings: Settings) -> None:
        self._modules = ImportResolver(files)
        self._scanner = Scanner(make_scan_config(files, 0, settings), {})
        self._linted = frozenset(files)
        self._known = {item.path: _sort_known(item.targets + item.candidates) for item in scanned}
        self._names: dict[str, NameTable] = {}
        self._next: dict[SymbolRef, list[SymbolRef | None]] = {}
        self._attending = self._find_attending(
            [(item.path, candidate) for item in scanned for candidate in item.candidates]
        )

    def add_targets(self, item: ScannedFile) -> ScannedFile:
        """A file with its candidates among the targets that are some."""
        found = [
            replace(target, needs=frozenset())
            for target in item.candidates
            if SymbolRef(item.path, target.symbol) in self._attending
        ]
        if not found:
            return item
        targets = sorted((*item.targets, *found), key=lambda target: (target.line, target.symbol))
        texts = item.texts or {None: decode_source(read_bytes(item.path))}
        roots = list_entry_symbols(target.symbol for target in found)
        return item._replace(targets=tuple(targets), texts=texts, roots=tuple(roots))

    def _find_attending(self, candidates: Sequence[tuple[str, Target]]) -> set[SymbolRef]:
        """The candidates that run attention: what they need is a target, or a candidate that runs some."""
        waiting: dict[SymbolRef, list[SymbolRef]] = {}
        attending: list[SymbolRef] = []
        stack, seen = list(candidates), {SymbolRef(path, target.symbol) for path, target in candidates}
        while stack:
            path, candidate = stack.pop()
            ref = SymbolRef(path, candidate.symbol)
            for used, is_instance in self._iter_needed(path, candidate):
                known = self._get_known(used.path)
                if used.name in known.targets:
                    if is_instance or known.targets[used.name].kind in _CALLED_KINDS:
                        attending.append(ref)
                elif used.name in known.candidates and (
                    is_instance or known.candidates[used.name].kind in _CALLED_KINDS
                ):
                    waiting.setdefault(used, []).append(ref)
                    if used not in seen:
                        seen.add(used)
                        stack.append((used.path, known.candidates[used.name]))
        found: set[SymbolRef] = set()
        while attending:
            ref = attending.pop()
            if ref not in found:
                found.add(ref)
                attending += waiting.get(ref, ())
        return found

    def _iter_needed(self, path: str, candidate: Target) -> Iterator[tuple[SymbolRef, bool]]:
        """Where that is defined which a candidate needs, each with whether an instance of it is run."""
        for need in sorted(candidate.needs):
            thing = need.removesuffix(INSTANCE)
            for used in self._find_definitions(path, thing):
                yield used, thing != need

    def _find_definitions(self, importer: str, path: str) -> list[SymbolRef]:
        """The targets and candidates that a dotted path means in a file, behind all re-exports."""
        found: list[SymbolRef] = []
        stack, seen = [self._find_definition(importer, path)], set[SymbolRef]()
        while stack:
            ref = stack.pop()
            if ref is None or ref in seen:
                continue
            seen.add(ref)
            known = self._get_known(ref.path)
            if ref.name in known.targets or ref.name in known.candidates:
                found.append(ref)
            else:
                stack += self._list_next(ref)
        return found

    def _find_definition(self, importer: str, path: str) -> SymbolRef | None:
        """The likeliest of what an import may mean: a file that binds the name, else one that may by its stars."""
        refs = self._modules.resolve_import(importer, path)
        binding = (ref for ref in refs if ref.name.partition(".")[0] in self._get_names(ref.path).bound)
        return next(binding, refs[0] if refs else None)

    def _list_next(self, ref: SymbolRef) -> list[SymbolRef | None]:
        """Where a file says that a name of it is defined which it imports."""
        if ref not in self._next:
            meanings = self._get_names(ref.path).resolve_path(ref.name)
            self._next[ref] = [self._find_definition(ref.path, path) for path in meanings]
        return self._next[ref]

    def _get_names(self, path: str) -> NameTable:
        if path not in self._names:
            self._names[path] = _read_imports(path)
        return self._names[path]

    def _get_known(self, path: str) -> _Known:
        if path not in self._known:
            # A linted file of which the scan says nothing holds none.
            self._known[path] = _Known({}, {}) if path in self._linted else self._scan(path)
        return self._known[path]

    def _scan(self, path: str) -> _Known:
        """The targets of a file beside the linted ones; none of one that cannot be read: it is not what is linted."""

        def scan() -> tuple[Target, ...]:
            data = read_bytes(path)
            return self._scanner.scan_targets(path, data, decode_source(data))

        return _sort_known(read_or_none(scan) or ())


def _sort_known(targets: Sequence[Target]) -> _Known:
    return _Known(
        {target.symbol: target for target in targets if not target.needs},
        {target.symbol: target for target in targets if target.needs},
    )


def _read_imports(path: str) -> NameTable:
    """The names that a module imports, those shadowed that it defines; none for what cannot be read."""
    tree = read_or_none(lambda: parse_python(decode_source(read_bytes(path))))
    table = NameTable()
    stack: list[ast.AST] = list(reversed(tree.body)) if tree is not None else []
    while stack:
        node = stack.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            table.bound.setdefault(node.name, set())
        elif isinstance(node, ast.stmt):
            table.bind_names(node)
            stack.extend(reversed(list(ast.iter_child_nodes(node))))
        elif isinstance(node, ast.ExceptHandler):
            stack.extend(reversed(node.body))
    return table
