"""Read and write the kernels that Triton keeps, and pack them as text.

A job gets copies: where code under test writes a kernel, it writes it for itself.
"""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress

Kernels = Mapping[str, bytes]
"""The files of Triton's cache, by their place in it."""

_GROUP, _PATHS = "__grp__", "child_paths"
"""Of a kernel Triton keeps a file of this name that lists the absolute paths of the others."""

_LONGEST = 256 << 20


def read_kernels(folder: str) -> dict[str, bytes]:
    """The files of a cache of Triton's."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                content = file.read()
            if name.startswith(_GROUP):
                content = _move_group(content, lambda listed: os.path.relpath(listed, folder))
            found[os.path.relpath(path, folder)] = content
    return found


def write_kernels(kernels: Kernels, folder: str) -> None:
    """Put kernels where Triton will look for them; without room for them it compiles its own."""
    with suppress(OSError):
        for name, content in kernels.items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            if os.path.basename(name).startswith(_GROUP):
                content = _move_group(content, lambda listed: os.path.join(folder, listed))
            with open(path, "wb") as file:
                file.write(content)
            os.chmod(path, 0o700)  # launchers are libraries


def _move_group(content: bytes, move: Callable[[str], str]) -> bytes:
    paths = json.loads(content)[_PATHS]
    return json.dumps({_PATHS: {name: move(path) for name, path in paths.items()}}).encode()


def pack_kernels(kernels: Kernels) -> str:
    """Kernels as text, for a message or an entry of the cache."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(kernels.items()):
            archive.writestr(name, content)
    return base64.b64encode(packed.getvalue()).decode()


def unpack_kernels(text: str) -> dict[str, bytes]:
    """What `pack_kernels` packed; nothing of what it did not.

    Names are relative and go to no other folder.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(text, validate=True))) as archive:
            entries = archive.infolist()
            fits = sum(entry.file_size for entry in entries) <= _LONGEST
            inside = all(_is_inside(entry.filename) for entry in entries)
            return {entry.filename: archive.read(entry) for entry in entries} if fits and inside else {}
    except (ValueError, zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError):
        return {}


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return not os.path.isabs(name) and not {"", ".", ".."}.intersection(parts)
