"""Write files so that no reader sees half of one."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress

from theria_lint.errors import UserError


def write_atomically(path: str, data: bytes) -> None:
    """Write to a temporary file beside ``path`` and rename it; mode and owner of a file that is there are kept."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=".theria-lint-")
    os.close(handle)
    _fill(temporary, "wb", data, path)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def copy_beside(path: str, copy: str, data: bytes) -> None:
    """Write what ``path`` holds to ``copy``, whole or not at all, for the same readers. OSError where something is."""
    _fill(copy, "xb", data, path)


def _fill(new: str, mode: str, data: bytes, path: str) -> None:
    """Write a file that has the mode, and where that can be the owner, of ``path``; leaves none that is not whole."""
    with open(new, mode, opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
        try:
            stream.write(data)
            stream.close()
            _keep_owner(path, new)
            os.chmod(new, _get_file_mode(path))
        except BaseException:
            os.unlink(new)
            raise


def _keep_owner(path: str, temporary: str) -> None:
    """Give a file to the owner of another: root writes for others, who could not change it any more."""
    with suppress(OSError, AttributeError):
        found, own = os.stat(path), os.stat(temporary)
        if (found.st_uid, found.st_gid) != (own.st_uid, own.st_gid):
            os.chown(temporary, found.st_uid, found.st_gid)


def _get_file_mode(path: str) -> int:
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def write_text(path: str, text: str) -> None:
    """Write a file that the user asked for. Raises UserError."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: str, data: bytes) -> None:
    """Write a file that the user asked for. Raises UserError."""
    _check_way(path)
    try:
        # What is no file (a pipe, /dev/stdout) cannot be replaced, only written to.
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as stream:
                stream.write(data)
        elif os.path.exists(path) and not os.stat(path).st_mode & 0o222:
            raise UserError(f"{path}: is write-protected.")
        else:
            write_atomically(os.path.realpath(path), data)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}.") from None


def _check_way(path: str) -> None:
    """Raise UserError for what is named as if it lay in the working directory, where a link leads out of that.

    The link may have come with the project: what it leads to is not what the user has named.
    """
    from theria_lint.sources.owned_folder import is_within

    here = os.getcwd()
    named = os.path.abspath(path).startswith(os.path.join(here, ""))
    if named and not is_within(path, here):
        raise UserError(
            f"{path}: a link leads out of this folder, to {os.path.realpath(path)}; name that file itself to write it."
        )
