"""Answers for the system calls that a filter asks about."""

from __future__ import annotations

import fcntl
import struct
from contextlib import suppress
from dataclasses import dataclass

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_NOTIFICATION_SIZE = 80
_CALL, _ARGUMENT = 16, 32
"""Where ``struct seccomp_notif`` has them."""


@dataclass(frozen=True)
class Wish:
    """A call that waits to be let go on: its number, and its first argument as a signed number."""

    identity: int
    call: int
    argument: int


def hear(listener: int) -> Wish | None:
    """The call that waits; None if its process has ended meanwhile."""
    notification = bytearray(_NOTIFICATION_SIZE)
    try:
        fcntl.ioctl(listener, _RECEIVE, notification)
    except OSError:
        return None
    (identity,) = struct.unpack_from("Q", notification)
    (call,) = struct.unpack_from("i", notification, _CALL)
    (argument,) = struct.unpack_from("i", notification, _ARGUMENT)
    return Wish(identity, call, argument)


def answer(listener: int, wish: Wish, refusal: int | None) -> None:
    """Lets one waiting call go on, or makes it fail with an error number; nothing, if its process has ended meanwhile.

    To let a call go on is safe where the filter has looked at registers only, as it has here: other threads of the
    process can change memory, not another thread's registers.
    """
    error, flags = (0, _CONTINUE) if refusal is None else (-refusal, 0)
    with suppress(OSError):
        fcntl.ioctl(listener, _SEND, bytearray(struct.pack("QqiI", wish.identity, 0, error, flags)))
