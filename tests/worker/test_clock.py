"""What works is given its seconds of the processor, what sleeps those on the wall."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from theria_lint.confirm.protocol import WALL_FACTOR
from theria_lint.worker.clock import Patience, read_process_clock


class Machine:
    """Time on the wall, and a process that has a share of it."""

    def __init__(self, share: float | None) -> None:
        self.wall, self.share = 0.0, share

    def wait_for(self, seconds: float) -> float:
        """How long the process is waited for."""
        patience = Patience(seconds, lambda: None if self.share is None else self.wall * self.share, lambda: self.wall)
        while (rest := patience.compute_rest()) > 0:
            self.wall += rest
        return self.wall


@pytest.mark.parametrize(
    ("share", "least", "most"),
    [
        (1.0, 30.0, 34.0),
        (0.5, 60.0, 64.0),
        (0.1, 30.0 * WALL_FACTOR, 30.0 * WALL_FACTOR + 4.0),
        (0.0, 30.0, 32.0),
        (None, 30.0, 30.0),
    ],
    ids=["alone", "beside another", "on a busy machine", "asleep", "unknown"],
)
def test_a_process_that_works_has_its_time(share: float | None, least: float, most: float) -> None:
    assert least <= Machine(share).wait_for(30.0) <= most


@pytest.mark.skipif(sys.platform != "linux", reason="Linux numbers the clocks of processes")
def test_the_clock_of_another_process_is_that_of_its_work() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        limit = time.monotonic() + 60
        while (read_process_clock(busy.pid) or 0.0) < 0.2 and time.monotonic() < limit:
            time.sleep(0.05)
        worked = read_process_clock(busy.pid)
        busy.kill()
    assert worked is not None
    assert worked >= 0.2


def test_a_process_that_is_gone_has_no_clock() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert read_process_clock(pid) is None
