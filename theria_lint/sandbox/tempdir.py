"""Make the worker's temporary folder, and remove it at the end whatever has ended the worker."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count

from theria_lint.reasons import CodedError, Reason, ReasonCode

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
        _remove_with_retries(folder)
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


def _remove_with_retries(folder: str) -> None:
    """Try again for a while: processes that are being killed may still write."""
    for _ in range(_PATIENCE):
        if remove_folder(folder):
            return
        time.sleep(0.05)


SIZE = 512 << 20
"""How many bytes the temporary folder of one job may hold."""
ENTRIES = 1 << 13
"""How many files and folders it may hold."""
DEPTH = 64
"""How many folders may stand in each other there."""

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NAMED = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


def find_excess(folder: str) -> Reason | None:
    """In what a folder has outgrown its limits; None if it has not."""
    try:
        with _open_folder(folder) as descriptor:
            _Measure().add(descriptor, 0)
    except _ExcessError as error:
        return error.reason
    except OSError:
        return None
    return None


class _ExcessError(CodedError):
    pass


@dataclass
class _Measure:
    size: int = 0
    entries: int = 0

    def add(self, folder: int, depth: int) -> None:
        """Add what an open folder holds; end as soon as that is too much."""
        if depth > DEPTH:
            raise _ExcessError(ReasonCode.FOLDERS_TOO_DEEP, most=DEPTH)
        with os.scandir(folder) as found:
            for entry in found:
                with suppress(FileNotFoundError):
                    self._add_entry(entry, folder, depth)

    def _add_entry(self, entry: os.DirEntry[str], folder: int, depth: int) -> None:
        what = entry.stat(follow_symlinks=False)
        self.entries += 1
        self.size += what.st_blocks * 512
        if self.entries > ENTRIES:
            raise _ExcessError(ReasonCode.TOO_MANY_FILES, most=ENTRIES)
        if self.size > SIZE:
            raise _ExcessError(ReasonCode.TOO_MUCH_DISK, mib=SIZE >> 20)
        if stat.S_ISDIR(what.st_mode):
            try:
                with _open_folder(entry.name, folder) as inner:
                    self.add(inner, depth + 1)
            except PermissionError:
                raise _ExcessError(ReasonCode.FOLDERS_CLOSED) from None


@contextmanager
def _open_folder(name: str, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def remove_folder(path: str) -> bool:
    """Remove a folder and all that it holds, as far as that can be done; whether it is gone.

    What stands in a folder in it is moved up before it is opened, so that nothing is ever looked up more than two
    levels down, and no more than two folders are open. Links are removed and never followed.
    """
    with suppress(OSError):
        _make_writable(path)
        with _open_folder(path) as top:
            fresh = (f".theria-lint-{number}" for number in count())
            while _empty_folder(top, fresh):
                pass
        os.rmdir(path)
    return not os.path.lexists(path)


def _empty_folder(top: int, fresh: Iterator[str]) -> bool:
    """Remove what is no folder, and each folder once its own folders have been moved up; whether that did anything."""
    done = False
    for name in os.listdir(top):
        with suppress(OSError):
            if _is_folder(name, top):
                _flatten_folder(name, top, fresh)
                os.rmdir(name, dir_fd=top)
            else:
                os.unlink(name, dir_fd=top)
            done = True
    return done


def _flatten_folder(name: str, top: int, fresh: Iterator[str]) -> None:
    _make_writable(name, top)
    with _open_folder(name, top) as folder:
        for inner in os.listdir(folder):
            with suppress(OSError):
                if _is_folder(inner, folder):
                    _make_writable(inner, folder)  # its entry ".." changes
                    _move_entry(inner, folder, top, fresh)
                else:
                    os.unlink(inner, dir_fd=folder)


def _move_entry(name: str, folder: int, top: int, fresh: Iterator[str]) -> None:
    """Move a folder to a name that nothing has; code under test may have guessed the first ones."""
    for new in fresh:
        try:
            os.stat(new, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
            return


def _is_folder(name: str, folder: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _make_writable(name: str, folder: int | None = None) -> None:
    """Let us do everything in a folder that is ours; by its descriptor, for its name may be a link by now."""
    descriptor = os.open(name, _NAMED, dir_fd=folder)
    try:
        with suppress(OSError):
            os.chmod(f"/proc/self/fd/{descriptor}" if hasattr(os, "O_PATH") else descriptor, stat.S_IRWXU)
    finally:
        os.close(descriptor)
