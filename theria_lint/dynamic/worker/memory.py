"""Lets memory that nobody has written be seen: new memory is filled with a pattern, where the C library can do that."""

from __future__ import annotations

import ctypes

_PERTURB = -6
"""glibc's number for the setting of ``mallopt`` that fills new memory with the complement of a byte."""


def fill_new(byte: int) -> None:
    """From now on most new memory is filled with a byte (0: not any more), where the C library is glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_PERTURB, byte and byte ^ 0xFF)
