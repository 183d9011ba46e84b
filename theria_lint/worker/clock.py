"""The clock that limits a probe: on a CPU that of the processor, which others on a busy machine do not run down."""

from __future__ import annotations

import time
from collections.abc import Callable

from theria_lint.confirm.protocol import WALL_FACTOR

_LOOK = 2.0
"""Seconds after which it is looked whether a process has worked."""

_IDLE = 0.02
"""The part of that time below which it has not: it sleeps, or waits for what never comes."""

_clock: Callable[[], float] = time.process_time


def use_wall_clock() -> None:
    """From now on the time on the wall counts: a GPU works while its process waits."""
    global _clock
    _clock = time.monotonic


def read_clock() -> float:
    """Seconds since some moment."""
    return _clock()


_OVERTIME = 1.6
"""After how many times its budget a probe is over: its process is ended after twice the budget."""


class ProbeClock:
    """The time that a probe has; ``left`` is what may go into finding out how to call the target."""

    def __init__(self, budget: float) -> None:
        """Start now; ``budget`` in seconds."""
        began = read_clock()
        self.left = budget
        self._deadline, self._end = began + budget, began + _OVERTIME * budget

    def is_late(self, seconds: float = 0.0) -> bool:
        """Whether nothing more should be begun that takes so long, but for what is needed for a verdict."""
        return read_clock() + seconds > self._deadline

    def is_over(self, seconds: float = 0.0) -> bool:
        """Whether nothing at all should be begun that takes so long."""
        return read_clock() + seconds > self._end


def read_process_clock(pid: int) -> float | None:
    """Seconds of processor time that a process has had; None where the system does not tell."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the clock of a process, as Linux numbers it
    except (OSError, OverflowError):
        return None


class Patience:
    """How long another process is waited for: so many seconds, and more while it works and has not had them."""

    def __init__(
        self,
        seconds: float,
        worked: Callable[[], float | None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``worked`` tells the seconds that the process has had so far, None where nobody knows."""
        self._seconds, self._worked, self._now = seconds, worked, now
        self._began = now()
        self._seen = worked() or 0.0
        self._until = self._began + seconds

    def compute_rest(self) -> float:
        """Seconds until it is worth to look again; 0 where the process is not waited for any longer."""
        rest = self._until - self._now()
        if rest > 0:
            return min(rest, _LOOK)
        worked = self._worked()
        if worked is None or worked > self._seconds or self._now() - self._began > WALL_FACTOR * self._seconds:
            return 0.0
        if worked - self._seen < _IDLE * _LOOK:
            return 0.0
        self._seen, self._until = worked, self._now() + _LOOK
        return _LOOK
