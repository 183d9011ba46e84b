"""Make system calls that Python does not wrap, through the C library."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import signal
import struct
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_READ_SEARCH = 2
_CAPSET = {"x86_64": 126, "aarch64": 91}


@cache
def _load_c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call_c_function(name: str, *arguments: object) -> int:
    """Call a function of the C library; an argument that is an int is passed as a long.

    Raises:
        OSError: if it fails, or this platform has no such function.
    """
    function = getattr(_load_c_library(), name, None) if sys.platform == "linux" else None
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
    result = int(function(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def make_system_call(number: int, *arguments: object) -> int:
    """Make a system call by its number; OSError as for ``call_c_function``."""
    return call_c_function("syscall", number, *arguments)


def _control_process(*arguments: int) -> bool:
    try:
        call_c_function("prctl", *arguments, *[0] * (5 - len(arguments)))
    except OSError:
        return False
    return True


def adopt_orphans() -> bool:
    """Make processes whose parents died children of this one, so that none is left behind."""
    return _control_process(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: int = signal.SIGKILL) -> bool:
    """Ask the kernel to end this process, by a signal, when its parent ends."""
    return _control_process(_PR_SET_PDEATHSIG, int(number))


def hide_memory(hidden: bool = True) -> bool:
    """Keep other processes of the same user from tracing this one and reading its files and memory."""
    return _control_process(_PR_SET_DUMPABLE, int(not hidden))


def drop_privileges() -> bool:
    """Give up what root, or a set-user-ID program, could do beyond an ordinary user, for good.

    Reading files of other users is kept for root, who may have to read a project that is not root's: the files that can
    be read at all are Landlock's business.
    """
    if not _control_process(_PR_SET_NO_NEW_PRIVS, 1):
        return False
    for capability in range(64):
        if capability != _CAP_DAC_READ_SEARCH:
            _control_process(_PR_CAPBSET_DROP, capability)
    kept = 1 << _CAP_DAC_READ_SEARCH if os.geteuid() == 0 else 0
    return _set_capabilities(kept) or _set_capabilities(0)


def _set_capabilities(kept: int) -> bool:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(kept, kept)  # effective and permitted; none are inherited
    try:
        make_system_call(_CAPSET[platform.machine()], header, data)
    except (OSError, KeyError):
        return False
    return True


_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_NOTIFICATION_SIZE = 80
_CALL, _ARGUMENT = 16, 32
"""Where ``struct seccomp_notif`` has them."""


@dataclass(frozen=True)
class Wish:
    """A call that waits to be let go on: its number, and its first argument as a signed number."""

    identity: int
    call: int
    argument: int


def hear(listener: int) -> Wish | None:
    """The call that waits; None if its process has ended meanwhile."""
    notification = bytearray(_NOTIFICATION_SIZE)
    try:
        fcntl.ioctl(listener, _RECEIVE, notification)
    except OSError:
        return None
    (identity,) = struct.unpack_from("Q", notification)
    (call,) = struct.unpack_from("i", notification, _CALL)
    (argument,) = struct.unpack_from("i", notification, _ARGUMENT)
    return Wish(identity, call, argument)


def answer_notification(listener: int, wish: Wish, refusal: int | None) -> None:
    """Let one waiting call go on, or make it fail with an error number; nothing, if its process has ended meanwhile.

    To let a call go on is safe where the filter has looked at registers only, as it has here: other threads of the
    process can change memory, not another thread's registers.
    """
    error, flags = (0, _CONTINUE) if refusal is None else (-refusal, 0)
    with suppress(OSError):
        fcntl.ioctl(listener, _SEND, bytearray(struct.pack("QqiI", wish.identity, 0, error, flags)))


_PATIENCE = 10.0
"""Seconds for what starts processes faster than they are ended, where nothing keeps it from that."""


def keep(files: Collection[int]) -> None:
    """Go on in a new process; the one that called closes some files, and ends all that the new one leaves behind.

    For a worker without a process namespace. All that it forks becomes a child of the process that called once the
    worker has ended, however that came; that process itself ends on SIGTERM, or with its own parent.
    """
    adopt_orphans()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    me, parent = os.getpid(), os.getppid()
    worker = os.fork()
    if worker == 0:
        die_with_parent()
        if os.getppid() != me:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: _kill(worker))
        die_with_parent(signal.SIGTERM)
        for file in files:
            os.close(file)
        if os.getppid() != parent:
            _kill(worker)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        os.waitpid(worker, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        bury()
    finally:
        os._exit(0)


def bury(spared: Collection[int] = ()) -> None:
    """End the children of this process but some, and what becomes its children thereby, and wait for the dead."""
    end = time.monotonic() + _PATIENCE
    while left := [pid for pid in list_children() if pid not in spared]:
        for number in (signal.SIGSTOP, signal.SIGKILL):  # what stands still starts nothing
            for pid in left:
                _kill(pid, number)
        for pid in left:
            with suppress(OSError):
                os.waitpid(pid, 0)
        if time.monotonic() > end:
            return


def _kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    with suppress(OSError):
        os.kill(pid, number)


def list_children() -> list[int]:
    """The children of this process, adopted ones included; none where the system does not tell.

    /proc may show another process namespace than ours: then a process's number in ours stands last in its NSpid.
    """
    with suppress(OSError, ValueError, IndexError):
        me = os.readlink("/proc/self")
        with open(f"/proc/{me}/task/{me}/children") as file:
            shown = file.read().split()
        return [int(pid) if me == str(os.getpid()) else _read_own_number(pid) for pid in shown]
    return []


def descends(pid: int, ancestor: int) -> bool:
    """Whether a process is another or was started by it, at whatever remove.

    Where /proc shows another process namespace than ours, it is: from ours no process outside can be named.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return True
        while pid not in (0, ancestor):
            with open(f"/proc/{pid}/stat") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return False
    return pid == ancestor


def _read_own_number(pid: str) -> int:
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("NSpid:"))
    return int(line.split()[-1])


def kill_process_group(pid: int) -> None:
    """Kill a child and the processes of its session."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
