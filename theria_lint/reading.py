"""Bytes of a file, and the text that the static stage is given: decoded, without BOM, lines ended by a newline."""

from __future__ import annotations

import os

# Nobody writes such a file by hand, and libcst would need minutes and gigabytes for it.
LARGEST_FILE = 10 * 1024 * 1024


class ReadError(Exception):
    """A file that cannot be turned into text, in one sentence; ``line`` where one is to blame."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


def read_bytes(path: str) -> bytes:
    """The content of a file. Raises ReadError if it cannot be read or is larger than ``LARGEST_FILE``."""
    try:
        size = os.stat(path).st_size
        if size > LARGEST_FILE:
            limit = f"the {LARGEST_FILE // 2**20} MB that are checked"
            raise ReadError(f"is {size / 2**20:.0f} MB, more than {limit}; exclude it or split it.")
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror or error}.") from None


def decode(data: bytes) -> str:
    """Source text by PEP 263: the BOM, the coding comment, or UTF-8. Raises ReadError."""
    import io
    import tokenize

    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ReadError(f"cannot be decoded: {error}; declare its encoding (PEP 263) or save it as UTF-8.", 1) from None
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ReadError(f"is not valid {encoding}; declare its encoding (PEP 263) or save it as UTF-8.", line) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
