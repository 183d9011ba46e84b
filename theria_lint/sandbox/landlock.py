"""Restrict a process to some files with Landlock, enforced by the kernel (5.13 and later) without privileges."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from theria_lint.sandbox.linux import make_system_call

# The numbers are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_NETWORK = 0b11
_SCOPES = 0b11

_KNOWN_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights on files each version of the interface knows; later ones know those of version 5."""

LIST_RIGHTS = _READ_DIR
READ_RIGHTS = _EXECUTE | _READ_FILE | _READ_DIR
DEVICE_RIGHTS = _READ_FILE | _WRITE_FILE | _IOCTL_DEVICE
OVERWRITE_RIGHTS = _WRITE_FILE | _TRUNCATE
"""Writing to files that exist."""
WRITE_RIGHTS = (1 << 15) - 1
"""Everything but the control of devices."""


def read_landlock_version() -> int:
    """The version of the kernel's Landlock interface; 0 where there is none."""
    try:
        return make_system_call(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def restrict_files(rules: Iterable[tuple[str, int]]) -> None:
    """Forbid this thread, and what it forks, all files but those at or under the given paths, with the given rights.

    From version 4 on TCP is forbidden too, from version 6 on signals to processes outside. Paths that do not exist are
    left out. The process must have given up new privileges.

    Raises:
        OSError: if the kernel refuses; nothing is restricted then.
    """
    known = read_landlock_version()
    handled = (1 << _KNOWN_RIGHTS.get(min(known, 5), 0)) - 1
    network = _NETWORK if known >= 4 else 0
    scopes = _SCOPES if known >= 6 else 0
    attributes = struct.pack("QQQ", handled, network, scopes)
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    ruleset = make_system_call(_CREATE_RULESET, ctypes.c_char_p(attributes), size, 0)
    try:
        for path, rights in rules:
            _allow_path(ruleset, path, rights & handled)
        make_system_call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_path(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FOR_FILES
        rule = struct.pack("=Qi", rights, descriptor)
        make_system_call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(descriptor)
