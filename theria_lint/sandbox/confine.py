"""Confine a process that is about to run somebody's code, with everything that the platform offers.

What it has no need of is forbidden; what it may use is limited: memory, processor time, file sizes, open files.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
from collections.abc import Callable, Iterable

from theria_lint.reasons import Reason, ReasonCode
from theria_lint.sandbox import (
    environment,
    landlock,
    linux,
    namespaces,
    readable_paths,
    seccomp,
    tempdir,
)
from theria_lint.sandbox.seccomp import ProcessPolicy

Protections = dict[str, Reason | None]
"""For each protection None where it holds, else why it does not, or not wholly."""

_FILE_SIZE = 64 << 20
_OPEN_FILES = 512
_ROOM = 1 << 30
"""Address space beyond the memory: stacks and arenas are reserved in large pieces that are hardly used."""


def settle_in_folder(folder: str) -> None:
    """Make a folder the working directory, the home and the place for temporary files and caches."""
    os.environ.update(environment.make_folder_variables(folder))
    tempfile.tempdir = None
    os.chdir(folder)


def apply_confinement(files: Iterable[str], folder: str, *, device: str) -> tuple[int | None, Protections]:
    """Forbid this process, and all that it forks, what importing and probing some files does not need.

    Of the disk it keeps what ``readable_paths.list_path_rules`` lists. Returns the listener that decides whether a
    process may be started, None where there is none, and what holds.
    """
    listener = None
    held: Protections = {"privileges": None if linux.drop_privileges() else Reason(ReasonCode.PRIVILEGES_KEPT)}
    held["files"] = (
        _try_action(lambda: landlock.restrict_files(readable_paths.list_path_rules(files, folder, device=device)))
        or _describe_old_landlock()
    )
    programs = device != "cpu"
    try:
        listener = seccomp.install_filter(
            seccomp.make_import_filter(ProcessPolicy.ASKED, programs=programs), listen=True
        )
    except OSError as error:
        held["processes"] = Reason(ReasonCode.PROCESSES_NOT_ASKED, {"message": error.strerror or str(error)})
        held["calls"] = _try_action(
            lambda: seccomp.install_filter(seccomp.make_import_filter(ProcessPolicy.ALLOWED, programs=programs))
        )
    else:
        held["processes"] = held["calls"] = None
    return listener, held


def apply_target_confinement(*, device: str) -> None:
    """Forbids, besides, new processes where a probe needs none, and signals to any process but this one."""
    _try_action(lambda: seccomp.install_filter(seccomp.make_target_filter(os.getpid(), programs=device != "cpu")))


def _describe_old_landlock() -> Reason | None:
    """This kernel's Landlock may be one that does not keep files from being truncated."""
    return None if landlock.read_landlock_version() >= 3 else Reason(ReasonCode.OLD_LANDLOCK)


def _try_action(action: Callable[[], object]) -> Reason | None:
    """Why an action failed; None if it did not."""
    try:
        action()
    except OSError as error:
        return Reason(ReasonCode.SYSTEM_REFUSES, {"message": error.strerror or str(error)})
    return None


def find_protections(folder: str) -> Protections:
    """Which protections hold on this machine: tried in a process that does nothing else."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            close_files_except(writer)
            _, held = apply_confinement([], folder, device="cpu")
            os.write(writer, json.dumps({name: why.to_json() if why else None for name, why in held.items()}).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    os.waitpid(pid, 0)
    told = json.loads(answer) if answer else {"all": Reason(ReasonCode.NOT_TRIED).to_json()}
    held = {name: Reason(why["code"], why["data"]) if why else None for name, why in told.items()}
    watched = Reason(ReasonCode.FOLDERS_WATCHED, {"mib": tempdir.SIZE >> 20, "files": tempdir.ENTRIES})
    return {**held, "disk": None if _can_mount_folder(folder) else watched}


def _can_mount_folder(folder: str) -> bool:
    mounted = namespaces.mount_folder(folder)
    if mounted:
        namespaces.unmount_folder(folder)
    return mounted


def close_files_except(descriptor: int) -> None:
    """Close every file but the standard streams and one."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))


def limit_resources(memory: int, seconds: float, *, device: str) -> None:
    """Limit memory (bytes beyond what the process holds), processor time, files and core dumps.

    A GPU's driver reserves address space for all memory that there is, so there only private memory is limited.
    """
    space, data = _read_held_memory()
    _set_limit(resource.RLIMIT_DATA, data + memory)
    if device == "cpu":
        _set_limit(resource.RLIMIT_AS, space + memory + _ROOM)
    _set_limit(resource.RLIMIT_CPU, int(seconds) + 5)
    _set_limit(resource.RLIMIT_FSIZE, _FILE_SIZE)
    _set_limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    # 1 and not 0: where a program collects core dumps, Linux hands it those of processes that are allowed none.
    _set_limit(resource.RLIMIT_CORE, 1)


def _set_limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _read_held_memory() -> tuple[int, int]:
    """The bytes that this process has mapped, and those that are private; 0 where the platform does not tell."""
    try:
        with open("/proc/self/statm") as file:
            pages = [int(field) for field in file.read().split()]
    except (OSError, ValueError):
        return 0, 0
    size = os.sysconf("SC_PAGE_SIZE")
    return pages[0] * size, pages[5] * size
