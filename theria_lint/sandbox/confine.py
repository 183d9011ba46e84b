"""Confine a process that is about to run somebody's code, with everything that the platform offers."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable

from theria_lint.sandbox import (
    environment,
    landlock,
    linux,
    namespaces,
    readable_paths,
    resource_limits,
    seccomp,
    tempdir,
)
from theria_lint.sandbox.seccomp import ProcessPolicy

Protections = dict[str, str | None]
"""For each protection None where it holds, else why it does not, or not wholly."""


def settle_in_folder(folder: str) -> None:
    """Makes a folder the working directory, the home and the place for temporary files and caches."""
    os.environ.update(environment.make_folder_variables(folder))
    tempfile.tempdir = None
    os.chdir(folder)


def apply_confinement(files: Iterable[str], folder: str, *, device: str) -> tuple[int | None, Protections]:
    """Forbids this process, and all that it forks, what importing and probing some files does not need.

    Of the disk it keeps what ``readable_paths.list_path_rules`` lists. Returns the listener that decides whether a
    process may be started, None where there is none, and what holds.
    """
    listener = None
    held: Protections = {"privileges": None if linux.drop_privileges() else "the system does not let them be dropped"}
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
        held["processes"] = f"the system does not let us be asked ({error.strerror or error})"
        held["calls"] = _try_action(
            lambda: seccomp.install_filter(seccomp.make_import_filter(ProcessPolicy.ALLOWED, programs=programs))
        )
    else:
        held["processes"] = held["calls"] = None
    return listener, held


def apply_target_confinement(*, device: str) -> None:
    """Forbids, besides, new processes where a probe needs none, and signals to any process but this one."""
    _try_action(lambda: seccomp.install_filter(seccomp.make_target_filter(os.getpid(), programs=device != "cpu")))


def _describe_old_landlock() -> str | None:
    return (
        None
        if landlock.read_landlock_version() >= 3
        else "this kernel's Landlock does not keep files from being truncated"
    )


def _try_action(action: Callable[[], object]) -> str | None:
    """Why an action failed; None if it did not."""
    try:
        action()
    except OSError as error:
        return f"the system refuses ({error.strerror or error})"
    return None


def find_protections(folder: str) -> Protections:
    """Which protections hold on this machine: tried in a process that does nothing else."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            resource_limits.close_files_except(writer)
            _, held = apply_confinement([], folder, device="cpu")
            os.write(writer, json.dumps(held).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    os.waitpid(pid, 0)
    held = json.loads(answer) if answer else {"all": "they could not be tried"}
    return {
        **held,
        "disk": None if _can_mount_folder(folder) else f"folders are watched, and ended beyond {_SIZE}",
    }


_SIZE = f"{tempdir.SIZE >> 20} MiB or {tempdir.ENTRIES} files"


def _can_mount_folder(folder: str) -> bool:
    mounted = namespaces.mount_folder(folder)
    if mounted:
        namespaces.unmount_folder(folder)
    return mounted
