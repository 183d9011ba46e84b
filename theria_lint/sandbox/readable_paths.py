"""List the paths that code under test may use: those of interpreter, project and system, nothing of the user's own."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from theria_lint.sandbox import landlock

_SYSTEM_FOLDERS = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/bin",
    "/sbin",
    "/nix/store",
    "/gnu/store",
    "/proc",
    "/sys",
)
_RUNNING_SYSTEM = ("/run/current-system", "/run/opengl-driver")
_LOADER = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/alternatives")
_NAMES = ("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/os-release")
_CUSTOMS = ("/etc/localtime", "/etc/timezone", "/etc/locale.alias", "/etc/mime.types", "/etc/fonts", "/etc/OpenCL")
_CERTIFICATES = ("/etc/ssl/certs", "/etc/pki/tls/certs")
_SYSTEM = (*_SYSTEM_FOLDERS, *_RUNNING_SYSTEM, *_LOADER, *_NAMES, *_CUSTOMS, *_CERTIFICATES)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_GPU_PREFIXES = ("nvidia", "kfd", "dri", "dxg")
_PROJECT_MARKS = ("pyproject.toml", "setup.py", "setup.cfg", ".git")
_LIBRARIES = ("site-packages", "dist-packages")
# Nobody's own code; an environment that is used is granted as the interpreter's.
_FOREIGN, _ENVIRONMENT = "node_modules", "pyvenv.cfg"
_MOST_ENTRIES = 50_000
"""So many entries of a project are looked at, and so many rules made at most: what comes later cannot be read."""


def list_path_rules(project_files: Iterable[str], temporary: str, *, device: str) -> Iterator[tuple[str, int]]:
    """The paths that a probe of some files on a device may use, each with its Landlock rights."""
    files = list(project_files)
    projects = {find_project_folder(file) for file in files}
    yield temporary, landlock.WRITE_RIGHTS
    for path in _SYSTEM:
        yield from _around(path, projects)
    yield from ((path, landlock.DEVICE_RIGHTS) for path in [*_DEVICES, *_list_gpu_nodes(device)])
    if device != "cpu":
        for path in _list_compiler_paths():
            yield from _around(path, projects)
        yield (
            "/proc",
            landlock.OVERWRITE_RIGHTS,
        )  # CUDA gives up where it cannot name its threads, in /proc/PID/task/TID/comm
    prefixes = {os.path.join(os.path.realpath(prefix), "") for prefix in _prefixes()}
    for path in _list_interpreter_paths():
        real = os.path.realpath(path)
        installed = os.path.join(real, "").startswith(tuple(prefixes)) or _is_library(real)
        yield from _around(real, projects) if installed and not _is_broad(real) else _of_project(real)
    yield from ((os.path.realpath(file), landlock.READ_RIGHTS) for file in files)
    for project in projects:
        yield from [(project, landlock.READ_RIGHTS)] if _is_library(project) else _of_project(project)


def foresee(project_files: Iterable[str], *, device: str) -> None:
    """Look at all folders that the rules ask about: once, in the process that all others are forked from."""
    deque(list_path_rules(project_files, os.devnull, device=device), maxlen=0)


def _around(path: str, projects: Collection[str]) -> Iterator[tuple[str, int]]:
    """Rights on all below a path but projects, whose hidden entries are left out, and where they lie."""
    real = os.path.realpath(path)
    below = [project for project in projects if project.startswith(os.path.join(real, ""))]
    if real in projects and not _is_library(real):
        return
    if all(map(_is_library, below)):
        yield path, landlock.READ_RIGHTS
        return
    yield real, landlock.LIST_RIGHTS
    for entry in _entries(real):
        if not entry.is_symlink() and not entry.name.startswith("."):
            yield from _around(entry.path, below)


def _is_library(folder: str) -> bool:
    """Whether a folder is where the interpreter has its packages, which are read as a whole."""
    return os.path.basename(folder) in _LIBRARIES and folder in map(os.path.realpath, sys.path)


def _prefixes() -> set[str]:
    return {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}


def _list_gpu_nodes(device: str) -> list[str]:
    if device == "cpu":
        return []
    return [entry.path for entry in os.scandir("/dev") if entry.name.startswith(_GPU_PREFIXES)]


def _list_interpreter_paths() -> set[str]:
    """Its prefixes, everything on its path, what editable installs point to, and the two packages of ours."""
    ours = [sys.modules.get(name) for name in ("theria", "theria_lint")]
    packages = {folder for package in ours for folder in getattr(package, "__path__", ())}
    libraries = {folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder}
    paths = packages | _prefixes() | libraries | {os.path.dirname(sys.executable), *_list_editable_folders(), *sys.path}
    return {path for path in paths if os.path.isabs(path)}


def _list_compiler_paths() -> Iterator[str]:
    """Where programs are found: Triton runs a C compiler, which has its parts beside its folder of programs."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        above = os.path.dirname(folder)
        inside_home = os.path.realpath(folder).startswith(_find_home() + os.sep)
        whole = os.path.basename(folder) == "bin" and not inside_home and not _is_broad(above)
        if os.path.isabs(folder) and not _is_broad(folder):
            yield above if whole else folder


def _list_editable_folders() -> Iterator[str]:
    """The folders that setuptools' finders map packages to: they are on no path."""
    for finder in sys.meta_path:
        module = sys.modules.get(getattr(finder, "__module__", ""))
        mapping = getattr(module, "MAPPING", None)
        if isinstance(mapping, dict):
            yield from (str(path) for path in mapping.values())


def find_project_folder(file: str) -> str:
    """The folder of a file's project; the folder that it is imported from, where nothing marks a project."""
    folder = os.path.dirname(os.path.realpath(file))
    while os.path.exists(os.path.join(folder, "__init__.py")) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    place = folder
    while not _is_broad(place):
        if any(os.path.exists(os.path.join(place, mark)) for mark in _PROJECT_MARKS):
            return place
        place = os.path.dirname(place)
    return folder


@dataclass(eq=False)
class _Folder:
    """A folder of a project: its files, the folders directly inside, and whether all below may be read."""

    path: str
    above: _Folder | None = None
    files: list[str] = field(default_factory=list)
    folders: list[_Folder] = field(default_factory=list)
    is_whole: bool = True

    def look(self, entries: Iterable[os.DirEntry[str]]) -> None:
        """Take in what it holds: no link, for that is read where it leads or not at all, and nothing hidden."""
        for entry in entries:
            if entry.name.startswith("."):
                self.hold_back()
            elif entry.is_dir(follow_symlinks=False):
                self.folders.append(_Folder(entry.path, self))
            elif entry.is_file(follow_symlinks=False):
                self.files.append(entry.path)

    def hold_back(self) -> None:
        """Something below it may not be read: neither it nor a folder above is granted as a whole."""
        folder: _Folder | None = self
        while folder is not None and folder.is_whole:
            folder.is_whole = False
            folder = folder.above

    def rules(self) -> Iterator[tuple[str, int]]:
        """Rights on all of it that may be read, the folders on top first."""
        waiting = deque([self])
        while waiting:
            folder = waiting.popleft()
            if folder.is_whole:
                yield folder.path, landlock.READ_RIGHTS
                continue
            yield folder.path, landlock.LIST_RIGHTS
            yield from ((path, landlock.READ_RIGHTS) for path in folder.files)
            waiting.extend(folder.folders)


@lru_cache(maxsize=256)
def _of_project(folder: str) -> tuple[tuple[str, int], ...]:
    """What is in a project's folder, hidden entries left out, however deep: they hold credentials (.env, .git/config).

    Of the folders around somebody's home it is the Python code.
    """
    if not os.path.isdir(folder):
        return ((folder, landlock.READ_RIGHTS),)
    top = _Folder(folder)
    waiting, left = deque([top]), _MOST_ENTRIES
    while waiting:
        current = waiting.popleft()
        entries = _entries(current.path)
        left -= len(entries)
        if not entries or left < 0 or (current is not top and _is_foreign(current, entries)):
            current.hold_back()
            continue
        if current is top and _is_broad(folder):
            current.hold_back()
            entries = entries if folder == _find_home() else [entry for entry in entries if _is_code(entry)]
        current.look(entries)
        waiting.extend(current.folders)
    return tuple(islice(top.rules(), _MOST_ENTRIES))


def _is_foreign(folder: _Folder, entries: Iterable[os.DirEntry[str]]) -> bool:
    return os.path.basename(folder.path) == _FOREIGN or any(entry.name == _ENVIRONMENT for entry in entries)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _is_code(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(".py") or os.path.exists(os.path.join(entry.path, "__init__.py"))


def _find_home() -> str:
    import pwd

    try:
        return os.path.realpath(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return os.path.realpath(os.path.expanduser("~"))


def _is_broad(folder: str) -> bool:
    """Whether a folder holds more than a project: the root, the home, or a folder above the home."""
    folder = os.path.realpath(folder)
    return os.path.commonpath([folder, _find_home()]) == folder or folder in ("/", "/tmp", "/var/tmp")
