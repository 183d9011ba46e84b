"""Which files code under test may read: the interpreter's, the project's, the system's; nothing of the user's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

from theria_lint.dynamic.worker.sandbox import landlock

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


def rules(project_files: Iterable[str], temporary: str, *, device: str) -> Iterator[tuple[str, int]]:
    """The paths that a probe of some files on a device may use, each with its Landlock rights."""
    yield temporary, landlock.WRITE
    yield from ((path, landlock.READ) for path in _SYSTEM)
    yield from ((path, landlock.DEVICE) for path in [*_DEVICES, *_gpu_nodes(device)])
    if device != "cpu":
        yield from ((path, landlock.READ) for path in _of_compilers())
        yield "/proc", landlock.SET  # CUDA gives up where it cannot name its threads, in /proc/PID/task/TID/comm
    for path in _of_interpreter():
        yield from _of_folder(path) if _is_broad(path) else [(path, landlock.READ)]
    for file in project_files:
        yield file, landlock.READ
        yield from _of_folder(project_of(file))


def _gpu_nodes(device: str) -> list[str]:
    if device == "cpu":
        return []
    return [entry.path for entry in os.scandir("/dev") if entry.name.startswith(_GPU_PREFIXES)]


def _of_interpreter() -> set[str]:
    """Its prefixes, everything on its path, what editable installs point to, and the two packages of ours."""
    ours = [sys.modules.get(name) for name in ("theria", "theria_lint")]
    packages = {folder for package in ours for folder in getattr(package, "__path__", ())}
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    libraries = {folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder}
    paths = packages | prefixes | libraries | {os.path.dirname(sys.executable), *_editable(), *sys.path}
    return {path for path in paths if os.path.isabs(path)}


def _of_compilers() -> Iterator[str]:
    """Where programs are found: Triton runs a C compiler, which has its parts beside its folder of programs."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        above = os.path.dirname(folder)
        inside_home = os.path.realpath(folder).startswith(_home() + os.sep)
        whole = os.path.basename(folder) == "bin" and not inside_home and not _is_broad(above)
        if os.path.isabs(folder) and not _is_broad(folder):
            yield above if whole else folder


def _editable() -> Iterator[str]:
    """The folders that setuptools' finders map packages to: they are on no path."""
    for finder in sys.meta_path:
        module = sys.modules.get(getattr(finder, "__module__", ""))
        mapping = getattr(module, "MAPPING", None)
        if isinstance(mapping, dict):
            yield from (str(path) for path in mapping.values())


def project_of(file: str) -> str:
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


def _of_folder(folder: str) -> Iterator[tuple[str, int]]:
    """What is in a project's folder, hidden entries left out: they hold credentials (.env, .git/config).

    Of the folders around somebody's home it is the Python code.
    """
    yield folder, landlock.LIST
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return
    if _is_broad(folder) and folder != _home():
        entries = [entry for entry in entries if _is_code(entry)]
    yield from ((entry.path, landlock.READ) for entry in entries)


def _is_code(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(".py") or os.path.exists(os.path.join(entry.path, "__init__.py"))


def _home() -> str:
    import pwd

    try:
        return os.path.realpath(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return os.path.realpath(os.path.expanduser("~"))


def _is_broad(folder: str) -> bool:
    """Whether a folder holds more than a project: the root, the home, or a folder above the home."""
    folder = os.path.realpath(folder)
    return os.path.commonpath([folder, _home()]) == folder or folder in ("/", "/tmp", "/var/tmp")
