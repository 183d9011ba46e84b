"""The parent's end of the worker: starts the target's Python, hands it jobs, collects outcomes."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from theria_lint.dynamic.protocol import Job, Outcome, Reads, TargetRequest, WorkerError
from theria_lint.dynamic.worker.sandbox.environment import allowed
from theria_lint.model import Environment

# The worker finds theria and theria_lint where this process has them, and nothing else of this environment: the two may
# be of different Python versions.
_BOOT = """
import sys
from importlib.machinery import PathFinder
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [sys.argv[2]]) if name in ("theria", "theria_lint") else None
sys.meta_path.insert(0, Finder)
from theria_lint.dynamic.worker.server import main
main()
"""


STARTUP = 300.0
"""Seconds until a worker has to greet: a cold disk takes long to import torch."""


Tell = Callable[[Outcome | None, list[tuple[Job, TargetRequest]]], None]
"""Called with an outcome that has just come, None at the start of a job, and with what runs now."""


class Worker:
    """A worker process of the target's Python, used as a context manager; jobs run ``jobs`` at a time.

    ``protections`` maps what keeps the code under test in its place to None where it holds, else to why it does not;
    ``reads`` names the files that the interpreter itself is made of.
    """

    def __init__(self, python: str, device: str, jobs: int) -> None:
        """Starts the process; `meet` waits until it is ready.

        Raises:
            WorkerError: if the interpreter cannot be started.
        """
        self._jobs = max(1, jobs)
        self._python = python
        self._unread = b""
        self.environment = Environment()
        self.protections: dict[str, str | None] = {}
        self.reads = Reads()
        root = str(Path(__file__).resolve().parents[2])
        environment = {**allowed(os.environ), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            self._process = subprocess.Popen(
                [python, "-P", "-c", _BOOT, device, root],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise WorkerError(
                f"{python} cannot be started ({error.strerror}): name an interpreter with --python"
            ) from None

    def meet(self) -> None:
        """Waits for the greeting: what the worker says of itself.

        Raises:
            WorkerError: if the interpreter lacks what probing needs.
        """
        greeting = self._receive(STARTUP)
        if greeting is None or "error" in greeting:
            why = greeting["error"] if greeting else "it ended before it answered"
            raise WorkerError(
                f"nothing was run: {why} in {self._python}; install theria-lint[confirm] there or choose --python"
            )
        self.environment = Environment(
            python=greeting["python"], torch=greeting["torch"], triton=greeting["triton"], device=greeting["device"]
        )
        self.protections = greeting["protections"]
        self.reads = Reads.from_json(greeting["reads"])

    def __enter__(self) -> Worker:
        """The worker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the process and everything below it."""
        self.close()

    def end(self) -> None:
        """Kills the process, and its children with it; safe in a signal handler."""
        self._process.kill()

    def close(self) -> None:
        """Ends it and closes the pipes."""
        self.end()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # a job may be left that nobody has read
                    stream.close()

    def run(self, jobs: Sequence[Job], tell: Tell) -> dict[int, dict[str, Outcome]]:
        """Runs jobs and returns the outcomes of each, by symbol, as far as there are any.

        A target may end the process that watches over it and its neighbours: those left without an outcome are run
        once more, each by itself.
        """
        outcomes: dict[int, dict[str, Outcome]] = {job.id: {} for job in jobs}
        self._run(jobs, outcomes, tell)
        left = [(job, t) for job in jobs for t in job.targets if t.symbol not in outcomes[job.id]]
        for job, target in left:
            self._run([replace(job, targets=(target,))], outcomes, tell)
        return outcomes

    def _run(self, jobs: Sequence[Job], outcomes: dict[int, dict[str, Outcome]], tell: Tell) -> None:
        waiting = iter(jobs)
        running: dict[int, Job] = {}
        self._fill(running, waiting)
        patience = max((_longest(job) for job in jobs), default=0.0)
        tell(None, _now(running, outcomes))
        while running:
            message = self._receive(patience)
            if message is None:
                return
            outcome = None
            if "outcome" in message:
                outcome = _parse(message, outcomes)
            elif message.get("end"):
                running.pop(message["job"], None)
                self._fill(running, waiting)
            tell(outcome, _now(running, outcomes))

    def _fill(self, running: dict[int, Job], waiting: Iterator[Job]) -> None:
        """Sends as many of the waiting jobs as may run beside the running ones."""
        for job in islice(waiting, self._jobs - len(running)):
            if self._send(job):
                running[job.id] = job

    def _send(self, job: Job) -> bool:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def _receive(self, patience: float) -> dict[str, Any] | None:
        """The next message; None when the worker has ended, or said nothing for longer than any job may take."""
        assert self._process.stdout is not None
        stream = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            ready, _, _ = select.select([stream], [], [], patience)
            data = os.read(stream, 1 << 16) if ready else b""
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def _now(running: Mapping[int, Job], outcomes: Mapping[int, Mapping[str, Outcome]]) -> list[tuple[Job, TargetRequest]]:
    """What runs: of each job the first target that has no outcome."""
    left = ((job, [t for t in job.targets if t.symbol not in outcomes[job.id]]) for job in running.values())
    return [(job, targets[0]) for job, targets in left if targets]


def _longest(job: Job) -> float:
    """Seconds after which the worker itself has certainly given a job up."""
    return 60 + job.import_time + len(job.targets) * (job.target_time + 1)


def _parse(message: dict[str, Any], outcomes: dict[int, dict[str, Outcome]]) -> Outcome | None:
    """Files an outcome; what is no outcome was written by the code under test and is dropped."""
    try:
        outcome = Outcome.from_json(json.loads(message["outcome"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    outcomes[message["job"]].setdefault(outcome.symbol, outcome)
    return outcome
