"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
import tempfile

from theria_lint.errors import UserError


def write_atomically(path: str, data: bytes) -> None:
    """Write to a temporary file beside ``path`` and rename it; the mode of a file that is there is kept."""
    directory = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".theria-lint-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, _mode(path))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def write_text(path: str, text: str) -> None:
    """Write a file that the user asked for. Raises UserError."""
    try:
        # What is no file (a pipe, /dev/stdout) cannot be replaced, only written to.
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
        else:
            write_atomically(os.path.realpath(path), text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}.") from None
