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


def encoding_of(data: bytes) -> str:
    """The encoding of source text by PEP 263: the BOM, the comment in the first two lines, or UTF-8.

    Raises ReadError for an encoding that Python does not know. Unlike ``tokenize.detect_encoding`` it takes, as the
    compiler does, a coding comment with characters that are not UTF-8.
    """
    import codecs
    import re

    if data.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    for line in data.replace(b"\r", b"\n").split(b"\n", 2)[:2]:
        found = re.match(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", line)
        if found:
            name = found[1].decode("ascii", "replace")
            try:
                "".encode(name)
            except LookupError:
                raise ReadError(f"is in the encoding {name!r}, which is unknown; save it as UTF-8.", 1) from None
            return name
        if line.strip() and not line.lstrip().startswith(b"#"):
            break
    return "utf-8"


def decode(data: bytes) -> str:
    """Source text in its own encoding. Raises ReadError."""
    encoding = encoding_of(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ReadError(f"is not valid {encoding}; declare its encoding (PEP 263) or save it as UTF-8.", line) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
