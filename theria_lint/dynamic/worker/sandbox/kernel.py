"""System calls that Python does not wrap, through the C library."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
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
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """Calls a function of the C library; an argument that is an int is passed as a long.

    Raises:
        OSError: if it fails, or this platform has no such function.
    """
    function = getattr(_library(), name, None) if sys.platform == "linux" else None
    if function is None:
        raise OSError(f"{sys.platform} has no {name}")
    result = int(function(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def system_call(number: int, *arguments: object) -> int:
    """Makes a system call by its number; OSError as for ``call``."""
    return call("syscall", number, *arguments)


def _control(*arguments: int) -> bool:
    try:
        call("prctl", *arguments, *[0] * (5 - len(arguments)))
    except OSError:
        return False
    return True


def adopt_orphans() -> bool:
    """Makes processes whose parents died children of this one, so that none is left behind."""
    return _control(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: int = signal.SIGKILL) -> bool:
    """Asks the kernel to end this process, by a signal, when its parent ends."""
    return _control(_PR_SET_PDEATHSIG, int(number))


def hide_memory(hidden: bool = True) -> bool:
    """Keeps other processes of the same user from tracing this one and reading its files and memory."""
    return _control(_PR_SET_DUMPABLE, int(not hidden))


def drop_privileges() -> bool:
    """Gives up what root, or a set-user-ID program, could do beyond an ordinary user, for good.

    Reading files of other users is kept for root, who may have to read a project that is not root's: the files that can
    be read at all are Landlock's business.
    """
    if not _control(_PR_SET_NO_NEW_PRIVS, 1):
        return False
    for capability in range(64):
        if capability != _CAP_DAC_READ_SEARCH:
            _control(_PR_CAPBSET_DROP, capability)
    kept = 1 << _CAP_DAC_READ_SEARCH if os.geteuid() == 0 else 0
    return _set_capabilities(kept) or _set_capabilities(0)


def _set_capabilities(kept: int) -> bool:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(kept, kept)  # effective and permitted; none are inherited
    try:
        system_call(_CAPSET[platform.machine()], header, data)
    except (OSError, KeyError):
        return False
    return True
