"""What a job says to the server that watches over it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from theria_lint.confirm.protocol import Job, TargetRequest
from theria_lint.worker.job import RunningJob

OUTCOME = b"x" * 100_000


@pytest.fixture
def ends() -> Iterator[tuple[RunningJob, socket.socket]]:
    """A job whose file has been imported and which has two targets, and the child's end of its channel."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    targets = (TargetRequest("a", "function"), TargetRequest("b", "function"))
    job = Job(0, "kernel.py", targets, {}, (), "cpu", 1.0, 1 << 30)
    with ours, theirs:
        yield RunningJob(job, 0, ours, "", False, 0.0, imported=True), theirs


def test_a_long_outcome_entitles_to_the_next_process_at_once(ends: tuple[RunningJob, socket.socket]) -> None:
    running, theirs = ends
    theirs.sendall(OUTCOME + b"\n")
    assert running.read_outcomes() == ([OUTCOME.decode()], True)
    assert running.forks > 0


def test_part_of_an_outcome_entitles_to_nothing(ends: tuple[RunningJob, socket.socket]) -> None:
    running, theirs = ends
    theirs.sendall(OUTCOME)
    assert running.read_outcomes() == ([], True)
    assert running.forks == 0
    theirs.sendall(b"\n")
    theirs.shutdown(socket.SHUT_WR)
    assert running.read_outcomes() == ([OUTCOME.decode()], False)


def test_a_job_signals_its_own_processes_only() -> None:
    with subprocess.Popen(["sleep", "60"]) as own, subprocess.Popen(["sleep", "60"]) as other:
        running = RunningJob(Job(0, "k.py", (), {}, (), "cpu", 1.0, 1), own.pid, socket.socket(), "", False, 0.0)
        may = {
            pid: running.may_signal(pid) for pid in (own.pid, -own.pid, 0, -1, other.pid, -other.pid, os.getpid(), 1)
        }
        own.kill()
        other.kill()
    assert may == {pid: pid in (own.pid, -own.pid, 0) for pid in may}
    assert not running.may_signal(other.pid)


_COUNTING = """
import os
import torch
from theria_lint.worker import server

calls = []
torch.set_num_threads = calls.append
server._make_greeting("cpu")
pid = os.fork()
if pid == 0:
    os._exit(len(calls))
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) - len(calls))
"""


def test_a_fork_renews_the_pool_of_threads_before_anything_runs_in_it() -> None:
    """PyTorch leaves that to the next who asks for it, and aborts where two threads of a backward do."""
    assert subprocess.run([sys.executable, "-c", _COUNTING], check=False).returncode == 1
