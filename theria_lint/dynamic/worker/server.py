"""The worker: imports torch once, then forks a child per variant and, in it, a child per target.

Reads jobs from standard input, one JSON object a line, and answers on standard output. What a child does (exit,
segfault, loop, allocate) costs one outcome, never the server.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
from dataclasses import dataclass
from typing import BinaryIO

from theria_lint.dynamic.protocol import Job
from theria_lint.dynamic.worker import child, limits


@dataclass
class _Running:
    """A child that serves a job: its process, the pipe it answers on, and what it has answered so far."""

    job: Job
    pid: int
    pipe: int
    deadline: float
    buffer: bytes = b""


class Server:
    """Serves jobs until its standard input closes and the last child has ended."""

    def __init__(self, jobs: BinaryIO, answers: BinaryIO) -> None:
        """Reads jobs from one stream and answers on the other."""
        self._jobs = jobs
        self._answers = answers
        self._selector = selectors.DefaultSelector()
        self._selector.register(jobs, selectors.EVENT_READ)
        self._running: dict[int, _Running] = {}

    def serve(self) -> None:
        """Runs until there is nothing left to do."""
        open_ = True
        while open_ or self._running:
            for key, _ in self._selector.select(timeout=0.2):
                if key.fileobj is self._jobs:
                    open_ = self._accept()
                else:
                    self._read(self._running[key.fd])
            for running in [r for r in self._running.values() if time.monotonic() > r.deadline]:
                self._end(running)

    def _accept(self) -> bool:
        line = self._jobs.readline()
        if not line:
            self._selector.unregister(self._jobs)
            return False
        job = Job.from_json(json.loads(line))
        self._start(job)
        return True

    def _start(self, job: Job) -> None:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            child.serve(job, writer)
        os.close(writer)
        deadline = time.monotonic() + child.import_time(job) + len(job.targets) * (job.timeout + 1)
        self._running[reader] = _Running(job, pid, reader, deadline)
        self._selector.register(reader, selectors.EVENT_READ)

    def _read(self, running: _Running) -> None:
        data = os.read(running.pipe, 1 << 16)
        if not data:
            self._end(running)
            return
        *lines, running.buffer = (running.buffer + data).split(b"\n")
        for line in lines:
            self._answer({"job": running.job.id, "outcome": line.decode("utf-8", "replace")})

    def _end(self, running: _Running) -> None:
        """Kills what is left of a job and tells the parent that no more will come."""
        child.kill_group(running.pid)
        self._selector.unregister(running.pipe)
        os.close(running.pipe)
        del self._running[running.pipe]
        self._reap()
        self._answer({"job": running.job.id, "end": True})

    def _reap(self) -> None:
        """Waits for the dead, orphans of children included."""
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return
            except ChildProcessError:
                return

    def _answer(self, message: dict[str, object]) -> None:
        self._answers.write(json.dumps(message).encode() + b"\n")
        self._answers.flush()


def main() -> None:
    """Greets with the versions of the environment, or with the reason why nothing can be run, and serves."""
    answers = os.fdopen(os.dup(1), "wb")
    jobs = os.fdopen(os.dup(0), "rb", buffering=0)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; it closes our input
    limits.die_with_parent()
    limits.adopt_orphans()
    greeting = _greeting(sys.argv[1])
    answers.write(json.dumps(greeting).encode() + b"\n")
    answers.flush()
    if "error" not in greeting:
        Server(jobs, answers).serve()


def _greeting(device: str) -> dict[str, str | None]:
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # so that asking for CUDA does not forbid forking
    python = ".".join(map(str, sys.version_info[:3]))
    try:
        import torch
    except Exception as error:
        return {"python": python, "error": f"torch cannot be imported ({type(error).__name__}: {error})"}
    torch.set_num_threads(1)  # a forked child must not inherit a pool of threads
    if device == "cuda" and not torch.cuda.is_available():
        return {"python": python, "error": "--device cuda was asked for, and torch sees no CUDA GPU"}
    device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        import triton
    except Exception:
        return {"python": python, "torch": torch.__version__, "triton": None, "device": device}
    import theria_lint.dynamic.worker.probing  # noqa: F401 - imported once here, so that children need not

    return {"python": python, "torch": torch.__version__, "triton": triton.__version__, "device": device}
