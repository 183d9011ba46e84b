"""Limit the processor time of a piece of work: a file can be made to take hours, and other work waits for it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType


class OutOfTimeError(BaseException):
    """The work has had its time; no handler of errors on the way may take it for one of those."""


# How often, in seconds, a thread is looked at that no signal can interrupt.
_PERIOD = 0.1


@contextmanager
def limit_processor_time(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the block once it has used so many seconds of processor time, however busy the machine.

    As with a signal, what a C function does in one go is not interrupted before it ends.
    """
    is_main = threading.current_thread() is threading.main_thread()
    limit = _limit_by_signal if is_main and sys.platform != "win32" else _limit_by_thread
    with limit(seconds):
        yield


@contextmanager
def _limit_by_signal(seconds: float) -> Iterator[None]:
    import signal  # its enumerations take a while to make, and of a clean file nothing is limited

    before = signal.signal(signal.SIGPROF, _raise_out_of_time)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _raise_out_of_time(number: int, frame: FrameType | None) -> None:
    raise OutOfTimeError


@contextmanager
def _limit_by_thread(seconds: float) -> Iterator[None]:
    """Have another thread look at the clock of this one: signals reach the main thread alone, and servers have more."""
    thread, lock, over = threading.get_ident(), threading.Lock(), threading.Event()
    read_clock = _find_clock(thread)
    end = read_clock() + seconds

    def watch() -> None:
        while not over.wait(_PERIOD):
            with lock:
                if not over.is_set() and read_clock() >= end:
                    _raise_in_thread(thread, OutOfTimeError)
                    return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        with lock:
            over.set()
        _raise_in_thread(thread, None)  # what was raised, and has not arrived before the block came to its end


def _find_clock(thread: int) -> Callable[[], float]:
    """What reads the processor time of a thread, or the time of day where a system has no such clock."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    return partial(time.clock_gettime, time.pthread_getcpuclockid(thread))


def _raise_in_thread(thread: int, error: type[BaseException] | None) -> None:
    """Raise an error in a thread before it runs its next line, or take back one that has not been raised yet."""
    import ctypes  # takes a while, and a run of the command line never comes here

    raised = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
