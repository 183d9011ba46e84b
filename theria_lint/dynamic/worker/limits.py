"""What a child that runs somebody's code may not do: outlive its time, fill the memory, start processes."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

_ALLOW = 0x7FFF0000
_ERRNO_EAGAIN = 0x00050000 | 11
_ERRNO_ENOSYS = 0x00050000 | 38
_CLONE_THREAD = 0x00010000

_ARCHITECTURES = {
    # machine: (audit architecture, clone, clone3, fork, vfork); None where the architecture has no such call
    "x86_64": (0xC000003E, 56, 435, 57, 58),
    "aarch64": (0xC00000B7, 220, 435, None, None),
}


def _prctl(*arguments: object) -> bool:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(*arguments) == 0)
    except (OSError, AttributeError):
        return False


def adopt_orphans() -> bool:
    """Makes processes whose parents died children of this one, so that none is left behind."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent ends, where it can."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def keep_only(descriptor: int) -> None:
    """Closes every file but the standard streams and one: the server's own pipes are not for the code under test."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))


def limit_resources(memory: int, seconds: float) -> None:
    """Limits private memory (bytes beyond what the process holds), processor time, file sizes and core dumps."""
    _limit(resource.RLIMIT_DATA, _held_memory() + memory)
    _limit(resource.RLIMIT_CPU, int(seconds) + 5)
    _limit(resource.RLIMIT_FSIZE, 1 << 28)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _held_memory() -> int:
    """The bytes of private data that this process has mapped; 0 where the platform does not tell."""
    try:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[5])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def forbid_processes() -> bool:
    """Makes fork, vfork and clone fail with EAGAIN, threads excepted; False where the kernel has no such filter.

    RLIMIT_NPROC would not do: it counts all processes of the user, and does not bind root.
    """
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None or not _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    program = _program(*architecture)
    instructions = (ctypes.c_char * len(program)).from_buffer_copy(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    return _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)


def _program(audit: int, clone: int, clone3: int, fork: int | None, vfork: int | None) -> bytes:
    """The filter in BPF: ``struct seccomp_data`` has the call's number at 0, the architecture at 4, arguments from 16.

    clone3 is refused as unknown, because its flags stand in memory that a filter cannot read: the C library then
    falls back on clone, whose flags are its first argument.
    """
    load, equal, test, answer = 0x20, 0x15, 0x45, 0x06
    code: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),
        (equal, 1, 0, audit),
        (answer, 0, 0, _ALLOW),
        (load, 0, 0, 0),
        (equal, 0, 1, clone3),
        (answer, 0, 0, _ERRNO_ENOSYS),
    ]
    for number in (fork, vfork):
        if number is not None:
            code += [(equal, 0, 1, number), (answer, 0, 0, _ERRNO_EAGAIN)]
    code += [
        (equal, 1, 0, clone),
        (answer, 0, 0, _ALLOW),
        (load, 0, 0, 16),
        (test, 1, 0, _CLONE_THREAD),
        (answer, 0, 0, _ERRNO_EAGAIN),
        (answer, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
