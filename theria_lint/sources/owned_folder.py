"""The folders that are ours: those that this platform has for a user, and the one in which results are kept.

That one carries our mark, and nothing is done through a link in it. Every folder is opened beneath the one that holds
it, and none of ours may be a link: what a project has planted in a cache leads nowhere. Where a system cannot open
files in that way, there are no such folders.

A user's caches and configuration are where platformdirs has them, which is not imported: it takes longer than a run on
a clean file does with everything else.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress

_PROGRAM = "theria-lint"
NAME = "theria-lint-1"
"""The folder that is made in what the user names as the place for results; the number is that of the format."""

TAG = "CACHEDIR.TAG"
KEY = "key"
MARK = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# Results that theria-lint keeps between runs, in format 1. This folder can be removed at any time.\n"
)
"""What a folder holds, under ``TAG``, that is ours."""

LARGEST = 16 << 20
"""Bytes of a file that is read; what we write is far smaller."""

_BENEATH = {os.open, os.mkdir, os.rename, os.stat, os.unlink} <= os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# A pipe that somebody has put there must not be waited for.
_FILE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
_FULL = re.compile("[0-9a-f]{2}")
_OURS = re.compile(r"[0-9a-f]{30}\.[a-z]+\.json|\.[0-9a-f]{16}\.tmp")


def get_cache_folder() -> str:
    """The folder for caches, with ours in it."""
    return _find_folder("LOCALAPPDATA", ("AppData", "Local"), "Caches", "XDG_CACHE_HOME", ".cache")


def get_configuration_folder() -> str:
    """The folder for a user's configuration, with ours in it."""
    return _find_folder("APPDATA", ("AppData", "Roaming"), "Application Support", "XDG_CONFIG_HOME", ".config")


def _find_folder(variable: str, windows: tuple[str, ...], macos: str, xdg_variable: str, xdg: str) -> str:
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        return os.path.join(os.environ.get(variable) or os.path.join(home, *windows), _PROGRAM)
    if sys.platform == "darwin":
        return os.path.join(home, "Library", macos, _PROGRAM)
    named = os.environ.get(xdg_variable, "")
    # A relative one would mean a folder in whatever project is linted: by the specification it counts as not set.
    return os.path.join(named if os.path.isabs(named) else os.path.join(home, xdg), _PROGRAM)


class NotOursError(OSError):
    """Something else stands where our folder would be."""


class Folder:
    """A folder that is open until the object is gone; names are those of entries in it, without separators."""

    def __init__(self, descriptor: int) -> None:
        """Take the descriptor over."""
        self._at = descriptor

    def __del__(self) -> None:
        """Close the folder."""
        os.close(self._at)

    def open_below(self, name: str, *, make: bool = False) -> Folder:
        """A folder in this one. OSError for what is none, or a link."""
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self._at)
        return Folder(os.open(name, os.O_RDONLY | _FOLDER, dir_fd=self._at))

    def read(self, name: str) -> bytes:
        """A regular file of a size that is ours. OSError for anything else."""
        descriptor = os.open(name, os.O_RDONLY | _FILE, dir_fd=self._at)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
                raise OSError(f"{name} is none of ours")
            with open(descriptor, "rb", closefd=False) as stream:
                return stream.read(LARGEST)
        finally:
            os.close(descriptor)

    def mark_used(self, name: str) -> None:
        """Say that a file is used now; others may read it than those who may write it."""
        with suppress(OSError):
            os.utime(name, dir_fd=self._at, follow_symlinks=False)

    def write(self, name: str, data: bytes) -> None:
        """A file, whole or not at all; what has its name is replaced, and a link not followed."""
        temporary = f".{os.urandom(8).hex()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE
        try:
            with open(os.open(temporary, flags, 0o600, dir_fd=self._at), "wb") as stream:
                stream.write(data)
            os.rename(temporary, name, src_dir_fd=self._at, dst_dir_fd=self._at)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._at)
            raise

    def list_names(self) -> list[str]:
        """What is in the folder."""
        return os.listdir(self._at)

    def iter_halves(self) -> Iterator[tuple[str, Folder]]:
        """The folders in this one that are named as results are, by the first half of their names."""
        for name in filter(_FULL.fullmatch, self.list_names()):
            with suppress(OSError):
                yield name, self.open_below(name)

    def remove(self, name: str) -> None:
        """Remove a file. OSError where that cannot be."""
        os.unlink(name, dir_fd=self._at)

    def remove_empty(self, name: str) -> None:
        """Remove a folder if nothing is in it."""
        with suppress(OSError):
            os.rmdir(name, dir_fd=self._at)

    def holds(self, name: str) -> bool:
        """Whether something has this name that is no empty folder."""
        try:
            self.get_age(name)
            return bool(self.open_below(name).list_names())
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def get_age(self, name: str) -> float:
        """Seconds since a file was written or used. OSError where there is none."""
        return time.time() - os.stat(name, dir_fd=self._at, follow_symlinks=False).st_mtime

    def make(self, name: str, files: Mapping[str, bytes]) -> None:
        """Make a folder with files in it, complete before it has its name. OSError where one is that is not empty."""
        temporary = f".{name}-{os.urandom(8).hex()}"
        new = self.open_below(temporary, make=True)
        try:
            for file, data in files.items():
                new.write(file, data)
            os.rename(temporary, name, src_dir_fd=self._at, dst_dir_fd=self._at)
        except BaseException:
            for file in new.list_names():
                os.unlink(file, dir_fd=new._at)
            os.rmdir(temporary, dir_fd=self._at)
            raise

    def remove_older(self, older: float) -> None:
        """Remove the results, of all that is in here, that nobody has used for so many seconds."""
        for _, folder in self.iter_halves():
            folder._remove(older)

    def _remove(self, older: float) -> None:
        for name in filter(_OURS.fullmatch, self.list_names()):
            with suppress(OSError):
                found = os.stat(name, dir_fd=self._at, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > older:
                    os.unlink(name, dir_fd=self._at)


def open_own_folder(place: str, *, make: bool = False) -> Folder:
    """Our folder in a place that the user has named; that place itself may be reached by a link.

    Raises:
        NotOursError: if what is there is not ours.
        OSError: if there is none, or none can be made.
    """
    if not _BENEATH:
        raise OSError("this system opens no file beneath a folder")
    if make:
        os.makedirs(place, exist_ok=True)
    above = Folder(os.open(place, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)))
    if make and not above.holds(NAME):
        with suppress(FileExistsError):  # another run was faster
            above.make(NAME, {TAG: MARK, KEY: os.urandom(32).hex().encode(), ".gitignore": b"*\n"})
    try:
        found = above.open_below(NAME)
        if found.read(TAG) == MARK:
            return found
    except OSError:
        if not above.holds(NAME):
            raise
    raise NotOursError(os.path.join(place, NAME))


def find_foreign_folder(place: str) -> str | None:
    """The folder that has our name in a place and is none of ours; None where results are kept, or can be."""
    try:
        open_own_folder(place)
    except NotOursError as error:
        return str(error)
    except OSError:
        pass
    return None


def is_within(path: str, folder: str) -> bool:
    """Whether a path leads into a folder, links resolved."""
    inner, outer = os.path.realpath(path), os.path.realpath(folder)
    try:
        return os.path.commonpath((inner, outer)) == outer
    except ValueError:  # on Windows: two drives
        return False
