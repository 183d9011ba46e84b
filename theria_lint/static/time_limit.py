"""Limit the processor time that one file may take: a file can be made to take hours, and other files wait for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS = 20.0
"""Of processor time. A file of ten thousand lines, as no person writes one, takes about two."""

EXCEEDED = f"takes more than {SECONDS:.0f} s of processor time to check: exclude it or split it."


class OutOfTimeError(BaseException):
    """A file has had its time; no handler of errors on the way may take it for one of those."""


@contextmanager
def limit_processor_time(seconds: float = SECONDS) -> Iterator[None]:
    """Raise OutOfTimeError in the block once it has used so many seconds of processor time, however busy the machine.

    Only the main thread of a process can be interrupted so, and only where the system has such a timer.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "ITIMER_PROF"):
        yield
        return
    before = signal.signal(signal.SIGPROF, _raise_out_of_time)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _raise_out_of_time(number: int, frame: FrameType | None) -> None:
    raise OutOfTimeError
