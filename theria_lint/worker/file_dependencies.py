"""Track the files that code reads and the folders where it looks for modules, for the outcome cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import source_from_cache
from typing import Any

from theria_lint.confirm.protocol import FileDependencies

_WRITING = os.O_WRONLY | os.O_RDWR
_OF_THE_MOMENT = ("/proc/", "/sys/", "/dev/")
_CUSTOM = ("sitecustomize", "usercustomize")


class FileDependencyTracker:
    """A finder of modules that finds none, and an audit hook: together they see every import, also one that fails.

    Forked children go on with a copy.
    """

    def __init__(self) -> None:
        """Nothing is recorded until `watch_imports`."""
        self._files: dict[str, None] = {}
        self._searched: dict[str, dict[str, None]] = {}
        self._inherited = FileDependencies()
        self._folder = ""

    def watch_imports(self) -> None:
        """Record from now on where modules are looked for."""
        sys.meta_path.insert(0, self)

    def import_for_children(self, name: str) -> None:
        """Import a module for all children that are forked from now on: each counts as one that has read its files.

        Raises:
            Exception: whatever the module raises; what it has imported by then counts.
        """
        known = set(sys.modules)
        self._searched = {}
        try:
            import_module(name)
        finally:
            files = [getattr(sys.modules[new], "__file__", None) or "" for new in set(sys.modules) - known]
            searched = {folder: tuple(names) for folder, names in self._searched.items()}
            self._inherited = FileDependencies(tuple(filter(os.path.isabs, files)), searched)

    def restart_tracking(self, folder: str) -> None:
        """Forget what was recorded and record opened files too, but those under ``folder``; for good."""
        self._files = dict.fromkeys(self._inherited.files)
        self._searched = {folder: dict.fromkeys(names) for folder, names in self._inherited.searched.items()}
        self._folder = os.path.realpath(folder) + os.sep
        sys.addaudithook(self._hear_audit_event)

    def find_spec(self, name: str, path: Iterable[str] | None = None, target: object = None) -> None:
        """Called by the import system, for ``name`` inside a package's ``path`` or on that of the interpreter."""
        last = name.rpartition(".")[2]
        for folder in sys.path if path is None else path:
            self._searched.setdefault(folder, {})[last] = None

    def _hear_audit_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITING):
            self._record_file(arguments[0])
        elif event == "import" and arguments[1] is not None:
            self._record_file(arguments[1])
        elif event == "ctypes.dlopen" and isinstance(arguments[0], str) and os.sep in arguments[0]:
            self._record_file(arguments[0])

    def _record_file(self, path: Any) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = os.path.abspath(os.fsdecode(path))
        if not name.startswith((self._folder, *_OF_THE_MOMENT)):
            self._files[name] = None

    def list_reads(self) -> FileDependencies:
        """What was read since it was started anew."""
        files = {_find_source_of_bytecode(path): None for path in self._files}
        return FileDependencies(
            tuple(files), {f: tuple(n) for f, n in self._searched.items() if _is_outside(f, self._folder)}
        )

    def list_interpreter_reads(self) -> FileDependencies:
        """The files of all modules that are loaded, and the names that would be looked for along the path."""
        loaded = list(sys.modules.values())
        files = [str(file) for module in loaded if os.path.isabs(file := getattr(module, "__file__", None) or "")]
        top = {name.partition(".")[0] for name in sys.modules} | {*_CUSTOM}
        names = {path: tuple(sorted({*top, *self._searched.get(path, ())})) for path in sys.path if os.path.isabs(path)}
        return FileDependencies((*files, os.path.realpath(sys.executable), *_list_path_marker_files(names)), names)


def _find_source_of_bytecode(path: str) -> str:
    """The source of a file of bytecode: the interpreter looks at its state, and does not open it."""
    try:
        return source_from_cache(path) if path.endswith(".pyc") else path
    except ValueError:
        return path


def _is_outside(folder: str, temporary: str) -> bool:
    return os.path.isabs(folder) and not (folder + os.sep).startswith(temporary)


def _list_path_marker_files(names: Mapping[str, object]) -> list[str]:
    """The files that make an interpreter's path: its environment's, and those that add to the path."""
    marks = [os.path.join(sys.prefix, "pyvenv.cfg")]
    for folder in names:
        if os.path.isdir(folder):
            marks += [entry.path for entry in os.scandir(folder) if entry.name.endswith(".pth")]
    return marks
