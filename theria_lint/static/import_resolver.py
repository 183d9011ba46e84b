"""Resolve imports to files as Python would from the importing file, without running anything."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_INIT = "__init__.py"
# A name that stands for a member of itself (``import x; x = x.y``) has no end.
_MAX_NAME_DEPTH = 8


class SymbolRef(NamedTuple):
    """Something in a module: the path of its file, and the dotted name that it has there."""

    path: str
    name: str


class ImportResolver:
    """Finds modules among the linted files, and in the package of the file that imports them.

    Paths that go in and out are relative to the working directory, with ``/`` between folders.
    """

    def __init__(self, linted: Iterable[str]) -> None:
        self._linted = {os.path.abspath(path): path for path in linted}
        self._packages: dict[str, str] = {}
        self._roots: dict[str, set[str]] = {}
        for path in self._linted:
            if os.path.basename(path) == _INIT:
                root, top = os.path.split(self._find_package_folder(os.path.dirname(path)))
                self._roots.setdefault(top, set()).add(root)
        self._found: dict[tuple[str, str], list[SymbolRef]] = {}

    def resolve_import(self, importer: str, path: str) -> list[SymbolRef]:
        """What a dotted path means in a file that imports it, the likeliest first.

        ``.kernel.f`` is ``f`` of ``kernel.py``, or else ``kernel.f`` of the package itself.
        """
        folder = os.path.dirname(os.path.abspath(importer))
        if (folder, path) not in self._found:
            self._found[folder, path] = list(self._iter_candidates(folder, path))
        return self._found[folder, path]

    def _iter_candidates(self, folder: str, path: str) -> Iterator[SymbolRef]:
        names = path.lstrip(".").split(".")
        level = len(path) - len(path.lstrip("."))
        start = (
            os.path.normpath(os.path.join(folder, *[".."] * (level - 1)))
            if level
            else self._find_root_folder(folder, names[0])
        )
        found = list(_iter_modules_on_path(start, names)) if start and names[0] else []
        package = self._find_package_folder(folder)
        for file, rest in reversed(found):
            if (
                rest
                and rest.count(".") <= _MAX_NAME_DEPTH
                and (file in self._linted or (package and self._belongs_to(file, package)))
            ):
                yield SymbolRef(self._linted.get(file) or os.path.relpath(file).replace(os.sep, "/"), rest)

    def _belongs_to(self, file: str, package: str) -> bool:
        """Whether a file is a package's own: not where a link that lies there leads to."""
        within = os.path.realpath(file).startswith(os.path.join(os.path.realpath(package), ""))
        return within and self._find_package_folder(os.path.dirname(file)) == package

    def _find_root_folder(self, folder: str, top: str) -> str:
        """The folder in which the topmost package of an absolute import lies, as far as the linted files tell."""
        package = self._find_package_folder(folder)
        own = os.path.dirname(package) if package else folder
        roots = self._roots.get(top, set())
        if _is_regular_module(os.path.join(own, top)) or len(roots) != 1:
            return own  # of several packages of one name, an import says not which is installed
        return next(iter(roots))

    def _find_package_folder(self, folder: str) -> str:
        """The folder of the topmost package around a folder, itself perhaps; empty where there is none."""
        if folder not in self._packages:
            above = os.path.dirname(folder)
            is_package = above != folder and os.path.isfile(os.path.join(folder, _INIT))
            self._packages[folder] = (self._find_package_folder(above) or folder) if is_package else ""
        return self._packages[folder]


def _is_regular_module(place: str) -> bool:
    return os.path.isfile(f"{place}.py") or os.path.isfile(os.path.join(place, _INIT))


def _iter_modules_on_path(folder: str, names: list[str]) -> Iterator[tuple[str, str]]:
    """The modules on the way along a dotted path, each with the rest of the path, outermost first."""
    for position in range(len(names) + 1):
        place = os.path.join(folder, *names[:position])
        rest = ".".join(names[position:])
        if os.path.isfile(os.path.join(place, _INIT)):
            yield os.path.join(place, _INIT), rest
        elif position and os.path.isfile(f"{place}.py"):
            yield f"{place}.py", rest
            return
        elif not os.path.isdir(place):
            return
