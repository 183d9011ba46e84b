"""Runs a program as on a machine that lacks some protections, and as a user or as root.

python lacking.py namespaces,landlock,seccomp nobody PROGRAM ARGUMENT...
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys

from theria_lint.sandbox import linux, seccomp

NOBODY = 65534
_MISSING = {"namespaces": ("unshare", "mount"), "seccomp": ("seccomp",)}
_LANDLOCK = 444  # creates a ruleset; the others need one
_KEEP_CAPABILITIES, _AMBIENT, _RAISE, _READ_ANYTHING = 8, 47, 2, 2


def main(missing: str, user: str, *command: str) -> None:
    lacking = [name for name in missing.split(",") if name]
    if user == "nobody" and os.geteuid() == 0:
        _become_nobody()
    if lacking:
        linux.call_c_function("prctl", 38, 1, 0, 0, 0)
        seccomp.install_filter([part for name in lacking for part in _refusals(name)])
    os.execv(command[0], command)


def _refusals(name: str) -> list[tuple[int, int, int, int]]:
    if name == "landlock":
        refusal = (0x06, 0, 0, 0x00050000 | errno.ENOSYS)
        return [(0x15, 0, 1, _LANDLOCK), refusal]
    return seccomp._refuse_calls(_MISSING[name], errno.EPERM)


def _become_nobody() -> None:
    """Keeps nothing of root but that the interpreter can be read, wherever it is."""
    linux.call_c_function("prctl", _KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    kept = 1 << _READ_ANYTHING
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(kept, kept, kept)
    linux.make_system_call(linux._CAPSET[platform.machine()], header, data)
    linux.call_c_function("prctl", _AMBIENT, _RAISE, _READ_ANYTHING, 0, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
