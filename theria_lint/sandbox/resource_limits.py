"""Limit what a process may use: memory, processor time, file sizes, open files."""

from __future__ import annotations

import os
import resource

_FILE_SIZE = 64 << 20
_OPEN_FILES = 512
_ROOM = 1 << 30
"""Address space beyond the memory: stacks and arenas are reserved in large pieces that are hardly used."""


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
