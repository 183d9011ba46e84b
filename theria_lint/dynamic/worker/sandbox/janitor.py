"""Removes the worker's temporary folder at the end, whatever has ended the worker."""

from __future__ import annotations

import os
import signal
import tempfile
import time

from theria_lint.dynamic.worker.sandbox import folders

_PATIENCE = 20


def make_folder() -> str:
    """A temporary folder that a process of its own removes once this process and all that it forks have ended.

    Those are seen to end by a pipe that only they hold: a process that closes the pipe counts as ended.
    """
    folder = os.path.realpath(tempfile.mkdtemp(prefix="theria-lint-"))
    reader, _ = os.pipe()
    between = os.fork()
    if between != 0:
        os.close(reader)
        os.waitpid(between, 0)
        return folder
    try:
        if os.fork() != 0:  # a child of ours would be taken for what the code under test has left behind
            os._exit(0)
        _leave_parent(reader)
        os.read(reader, 1)
        _remove(folder)
    finally:
        os._exit(0)


def _leave_parent(reader: int) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(reader, 0)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    os.chdir("/")
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.dup2(0, reader)


def _remove(folder: str) -> None:
    """Tries again for a while: processes that are being killed may still write."""
    for _ in range(_PATIENCE):
        if folders.remove(folder):
            return
        time.sleep(0.05)
