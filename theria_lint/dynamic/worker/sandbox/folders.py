"""Folders that code under test has filled: measured and removed however deep they are, whatever they allow.

Names are looked up in an open folder, never along a path: a path can be too long, and a link in it leads elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count

SIZE = 512 << 20
"""How many bytes the temporary folder of one job may hold."""
ENTRIES = 1 << 13
"""How many files and folders it may hold."""
DEPTH = 64
"""How many folders may stand in each other there."""

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NAMED = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


def excess(folder: str) -> str | None:
    """In what a folder has outgrown its limits, in words that fit after "its file writes"; None if it has not."""
    try:
        with _opened(folder) as descriptor:
            _Measure().add(descriptor, 0)
    except _ExcessError as error:
        return str(error)
    except OSError:
        return None
    return None


class _ExcessError(Exception):
    pass


@dataclass
class _Measure:
    size: int = 0
    entries: int = 0

    def add(self, folder: int, depth: int) -> None:
        """Adds what an open folder holds; ends as soon as that is too much."""
        if depth > DEPTH:
            raise _ExcessError(f"more than {DEPTH} folders into each other")
        with os.scandir(folder) as found:
            for entry in found:
                with suppress(FileNotFoundError):
                    self._add_entry(entry, folder, depth)

    def _add_entry(self, entry: os.DirEntry[str], folder: int, depth: int) -> None:
        what = entry.stat(follow_symlinks=False)
        self.entries += 1
        self.size += what.st_blocks * 512
        if self.entries > ENTRIES:
            raise _ExcessError(f"more than {ENTRIES} files")
        if self.size > SIZE:
            raise _ExcessError(f"more than {SIZE >> 20} MiB to the disk")
        if stat.S_ISDIR(what.st_mode):
            try:
                with _opened(entry.name, folder) as inner:
                    self.add(inner, depth + 1)
            except PermissionError:
                raise _ExcessError("folders that may not be read") from None


@contextmanager
def _opened(name: str, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def remove(path: str) -> bool:
    """Removes a folder and all that it holds, as far as that can be done; whether it is gone.

    What stands in a folder in it is moved up before it is opened, so that nothing is ever looked up more than two
    levels down, and no more than two folders are open. Links are removed and never followed.
    """
    with suppress(OSError):
        _make_writable(path)
        with _opened(path) as top:
            fresh = (f".theria-lint-{number}" for number in count())
            while _empty(top, fresh):
                pass
        os.rmdir(path)
    return not os.path.lexists(path)


def _empty(top: int, fresh: Iterator[str]) -> bool:
    """Removes what is no folder, and each folder once its own folders have been moved up; whether that did anything."""
    done = False
    for name in os.listdir(top):
        with suppress(OSError):
            if _is_folder(name, top):
                _flatten(name, top, fresh)
                os.rmdir(name, dir_fd=top)
            else:
                os.unlink(name, dir_fd=top)
            done = True
    return done


def _flatten(name: str, top: int, fresh: Iterator[str]) -> None:
    _make_writable(name, top)
    with _opened(name, top) as folder:
        for inner in os.listdir(folder):
            with suppress(OSError):
                if _is_folder(inner, folder):
                    _make_writable(inner, folder)  # its entry ".." changes
                    _move(inner, folder, top, fresh)
                else:
                    os.unlink(inner, dir_fd=folder)


def _move(name: str, folder: int, top: int, fresh: Iterator[str]) -> None:
    """Moves a folder to a name that nothing has; code under test may have guessed the first ones."""
    for new in fresh:
        try:
            os.stat(new, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
            return


def _is_folder(name: str, folder: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _make_writable(name: str, folder: int | None = None) -> None:
    """Lets us do everything in a folder that is ours; by its descriptor, for its name may be a link by now."""
    descriptor = os.open(name, _NAMED, dir_fd=folder)
    try:
        with suppress(OSError):
            os.chmod(f"/proc/self/fd/{descriptor}" if hasattr(os, "O_PATH") else descriptor, stat.S_IRWXU)
    finally:
        os.close(descriptor)
