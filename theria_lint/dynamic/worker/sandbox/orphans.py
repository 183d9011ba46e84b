"""Finds processes that code under test has left behind, and ends them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress

from theria_lint.dynamic.worker.sandbox import kernel

_PATIENCE = 10.0
"""Seconds for what starts processes faster than they are ended, where nothing keeps it from that."""


def keep(files: Collection[int]) -> None:
    """Goes on in a new process; the one that called closes some files, and ends all that the new one leaves behind.

    For a worker without a process namespace. All that it forks becomes a child of the process that called once the
    worker has ended, however that came; that process itself ends on SIGTERM, or with its own parent.
    """
    kernel.adopt_orphans()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    me, parent = os.getpid(), os.getppid()
    worker = os.fork()
    if worker == 0:
        kernel.die_with_parent()
        if os.getppid() != me:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: _kill(worker))
        kernel.die_with_parent(signal.SIGTERM)
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
    """Ends the children of this process but some, and what becomes its children thereby, and waits for the dead."""
    end = time.monotonic() + _PATIENCE
    while left := [pid for pid in children() if pid not in spared]:
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


def children() -> list[int]:
    """The children of this process, adopted ones included; none where the system does not tell.

    /proc may show another process namespace than ours: then a process's number in ours stands last in its NSpid.
    """
    with suppress(OSError, ValueError, IndexError):
        me = os.readlink("/proc/self")
        with open(f"/proc/{me}/task/{me}/children") as file:
            shown = file.read().split()
        return [int(pid) if me == str(os.getpid()) else _own_number(pid) for pid in shown]
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


def _own_number(pid: str) -> int:
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("NSpid:"))
    return int(line.split()[-1])
