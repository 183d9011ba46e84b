"""Enter namespaces: a process table, a network and a file system view of the worker's own, where users may have them.

The worker becomes process 1 of its namespace. The kernel kills everything in it when process 1 ends, and nothing in it
can name a process outside.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import NoReturn

from theria_lint.reasons import Reason, ReasonCode
from theria_lint.sandbox import linux, tempdir

_NEW_MOUNTS, _NEW_IPC, _NEW_USER, _NEW_PIDS, _NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXECUTION = 0x1, 0x2, 0x4, 0x8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
_DETACH = 2

_SETTINGS = (
    b"/proc/sys",
    b"/proc/sysrq-trigger",
    b"/proc/irq",
    b"/proc/bus",
    b"/proc/fs",
    b"/proc/acpi",
    b"/proc/scsi",
)


def enter_namespaces() -> Reason | None:
    """Go on in a new process inside new namespaces; the one that called stays outside and ends with it.

    Returns None inside, or the reason why there are none, in the process that called. To be called before there are
    threads and before anything large is loaded.
    """
    asked, ask = os.pipe()
    told, tell = os.pipe()
    outer = os.fork()
    if outer == 0:
        os.close(asked)
        os.close(tell)
        _go_inside(ask, told)
        return None
    os.close(ask)
    os.close(told)
    mapped = os.read(asked, 1) == b"?" and _map_identities(outer)
    if mapped:
        os.write(tell, b"!")
        _wait_outside(outer)
    os.close(asked)
    os.close(tell)
    os.waitpid(outer, 0)
    return Reason(ReasonCode.NO_NAMESPACES)


def _go_inside(ask: int, told: int) -> None:
    """Make the namespaces, have the users mapped from outside, and go on as the first process inside."""
    try:
        linux.call_c_function("unshare", _NEW_USER | _NEW_PIDS | _NEW_NETWORK | _NEW_IPC | _NEW_MOUNTS)
        os.write(ask, b"?")
        if os.read(told, 1) != b"!":
            os._exit(1)
        child = os.fork()
    except OSError:
        os._exit(1)
    if child != 0:
        _wait_outside(child)
    os.close(ask)
    os.close(told)
    linux.die_with_parent()
    _mount_own_view()


def _map_identities(process: int) -> bool:
    """Map every user of this namespace to itself if the system lets us, else the one that we are.

    With root's map complete, a project that belongs to another user can still be read by root.
    """
    with suppress(OSError):
        _write_maps(process, _read_small_file("/proc/self/uid_map"), _read_small_file("/proc/self/gid_map"))
        return True
    with suppress(OSError):
        _write_small_file(f"/proc/{process}/setgroups", "deny")
        _write_maps(process, f"{os.geteuid()} 0 1", f"{os.getegid()} 0 1")
        return True
    return False


def _write_maps(process: int, users: str, groups: str) -> None:
    """Write identity maps for the ranges that tables of (inside, outside, count) speak of."""
    for table, kind in ((users, "uid_map"), (groups, "gid_map")):
        ranges = [line.split() for line in table.splitlines()]
        _write_small_file(
            f"/proc/{process}/{kind}", "\n".join(f"{first} {first} {count}" for first, _, count in ranges)
        )


def _read_small_file(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write_small_file(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _wait_outside(child: int) -> NoReturn:
    """End as the inner process ends; hold none of its files, so that their other ends see it end."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    linux.die_with_parent()
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _mount_own_view() -> None:
    """Show the processes of this namespace in /proc and no others, and the kernel's settings for reading only.

    Each as far as the system lets it: root could change the settings without any capability.
    """
    with suppress(OSError):
        linux.call_c_function("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
        linux.call_c_function("mount", b"proc", b"/proc", b"proc", _NO_SUID | _NO_DEVICES | _NO_EXECUTION, None)
    for path in _SETTINGS:
        with suppress(OSError):
            linux.call_c_function("mount", path, path, None, _BIND | _RECURSIVE, None)
            flags = _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES | _NO_EXECUTION
            linux.call_c_function("mount", None, path, None, flags, None)


def mount_folder(path: str) -> bool:
    """Put an empty file system of limited size at a folder; False where that cannot be had."""
    options = f"size={tempdir.SIZE},nr_inodes={tempdir.ENTRIES},mode=0700".encode()
    try:
        linux.call_c_function("mount", b"tmpfs", os.fsencode(path), b"tmpfs", _NO_SUID | _NO_DEVICES, options)
    except OSError:
        return False
    return True


def unmount_folder(path: str) -> None:
    """Take away what ``mount_folder`` put there."""
    with suppress(OSError):
        linux.call_c_function("umount2", os.fsencode(path), _DETACH)
