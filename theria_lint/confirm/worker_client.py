"""The worker process as its parent sees it: start it, send jobs, collect outcomes."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from theria_lint.confirm import message_checks
from theria_lint.confirm.executor import KernelStore, OutcomeListener
from theria_lint.confirm.message_checks import NonsenseError
from theria_lint.confirm.protocol import (
    LONGEST_ANSWER,
    GpuShare,
    Greeting,
    Job,
    Outcome,
    TargetRequest,
    WorkerError,
    read_reason,
)
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.sandbox.environment import select_harmless_variables

# The worker finds theria and theria_lint where this process has them, and nothing else of this environment: the two may
# be of different Python versions.
_BOOTSTRAP = """
import sys
from importlib.machinery import PathFinder
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [sys.argv[2]]) if name in ("theria", "theria_lint") else None
sys.meta_path.insert(0, Finder)
from theria_lint.worker.server import main
main()
"""


STARTUP_TIMEOUT = 300.0
"""Seconds until a worker has to greet: a cold disk takes long to import torch."""


_LONGEST_MESSAGE = 6 * LONGEST_ANSWER + (1 << 16)
"""A line that is longer is no message: JSON in JSON takes six bytes for one at most."""

_PIECE = 1 << 16

_COMPILE_PATIENCE = 60.0
"""Seconds that the worker is given, at the end of a run, for the kernels that it is compiling."""

_PATIENCE = 15.0
"""Seconds that the worker is given to end what it has started."""


class WorkerClient:
    """A worker process of the target's Python, used as a context manager; jobs run ``jobs`` at a time.

    ``greeting`` is what it has said of itself. Nothing that the process says is believed before it has been checked: it
    holds what the code under test says.
    """

    def __init__(self, python: str, device: str, jobs: int, kernels: KernelStore | None = None) -> None:
        """Start the process; `wait_for_greeting` waits until it is ready.

        ``kernels`` has what an earlier worker has compiled, and keeps what this one does.

        Raises:
            WorkerError: if the interpreter cannot be started.
        """
        self._jobs = max(1, jobs)
        self._python = python
        self._device = device
        self._kernels = kernels
        self._ended = False
        self.greeting = Greeting()
        self._start()

    def _start(self) -> None:
        self._unread = bytearray()
        kernels = self._kernels.load_kernels() if self._kernels and self._device != "cpu" else ""
        self._unsent = json.dumps({"kernels": kernels}).encode() + b"\n" if kernels else b""
        self._lacks_kernels = self._kernels is not None and not kernels
        self._compiles = False
        root = str(Path(__file__).resolve().parents[2])
        environment = {**select_harmless_variables(os.environ), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            self._process = self._popen(root, environment)
        except OSError as error:
            told = {"interpreter": self._python, "message": error.strerror or str(error)}
            raise WorkerError(Reason(ReasonCode.INTERPRETER_FAILS, told)) from None
        self._answers, self._requests = _descriptors(self._process)
        os.set_blocking(self._requests, False)

    def _popen(self, root: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._python, "-P", "-c", _BOOTSTRAP, self._device, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )

    def wait_for_greeting(self) -> None:
        """Wait for the greeting: what the worker says of itself.

        Raises:
            WorkerError: if the interpreter lacks what probing needs.
        """
        greeting = self._receive_message(STARTUP_TIMEOUT)
        try:
            why = Reason(ReasonCode.NO_GREETING) if greeting is None else self._hear_greeting(greeting)
        except NonsenseError as error:
            why = Reason(ReasonCode.NO_SENSE, {"reason": error.reason})
        if why:
            self._process.terminate()
            raise WorkerError(Reason(ReasonCode.INTERPRETER_UNFIT, {"interpreter": self._python, "reason": why}))

    def _hear_greeting(self, greeting: Any) -> Reason | None:
        """Take what a greeting says; return the reason why nothing can be run, if it says so."""
        if isinstance(greeting, dict) and "error" in greeting:
            return read_reason(greeting["error"])
        self.greeting = Greeting.from_json(greeting)
        return None

    def __enter__(self) -> WorkerClient:
        """The worker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process and everything below it."""
        self.close()

    @property
    def width(self) -> int:
        """How many jobs run at a time."""
        return self._jobs

    def end_jobs(self) -> None:
        """End the process, and its children with it, for good; safe in a signal handler."""
        self._ended = True
        self._process.terminate()  # it may have processes to end that would outlive it otherwise

    def close(self) -> None:
        """End it and close the pipes, once it has handed over the kernels that it is compiling: they are lost else."""
        if self._compiles and not self._ended:
            self._take_kernels(self._receive_line(_COMPILE_PATIENCE))
        self.end_jobs()
        self._bury()

    def _bury(self) -> None:
        self._end_process()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _end_process(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        """Start the process anew if it has ended; False where that is not wanted, or did not work."""
        if not self._ended and self._process.poll() is not None:
            self._bury()
            try:
                self._start()
                if self._ended:  # meanwhile, when there was no process to end
                    self._process.terminate()
                self.wait_for_greeting()
            except WorkerError:
                self._ended = True
        return not self._ended

    def run_jobs(self, jobs: Sequence[Job], listener: OutcomeListener) -> dict[int, dict[str, Outcome]]:
        """Run jobs and return the outcomes of each, by symbol, as far as there are any.

        A target may end the process that watches over it and its neighbours: those left without an outcome are run
        once more, each by itself. What has ended the worker costs the jobs that ran then no more than that.
        """
        outcomes: dict[int, dict[str, Outcome]] = {job.id: {} for job in jobs}
        left = list(jobs)
        while left and self._is_ready():
            left = self._run_job_queue(left, outcomes, listener)
        for job, target in _left(jobs, outcomes):
            if self._is_ready():
                self._run_job_queue([replace(job, targets=(target,))], outcomes, listener)
        return outcomes

    def _run_job_queue(
        self, jobs: Sequence[Job], outcomes: dict[int, dict[str, Outcome]], listener: OutcomeListener
    ) -> list[Job]:
        """Run jobs until the last has ended, or the worker has; return those that have not begun by then."""
        waiting = deque(jobs)
        running: dict[int, AskedJob] = {}
        self._send_waiting_jobs(running, waiting, outcomes)
        patience = max((_compute_patience(job) for job in jobs), default=0.0)
        listener(None, _list_running_targets(running))
        while running:
            message = self._receive_message(patience)
            asked = running.get(_number(message))
            if message is None or asked is None:
                self._give_up(running)
                break
            said = asked.hear(message)
            if message.get("end"):
                del running[asked.job.id]
                self._send_waiting_jobs(running, waiting, outcomes)
            listener(said, _list_running_targets(running))
        return list(waiting)

    def _give_up(self, running: Mapping[int, AskedJob]) -> None:
        """End a worker that is silent, or says what nobody can read; what a job said last has ended it, perhaps."""
        self._end_process()
        for asked in running.values():
            if not self._ended:
                asked.retract()

    def _send_waiting_jobs(
        self, running: dict[int, AskedJob], waiting: deque[Job], outcomes: dict[int, dict[str, Outcome]]
    ) -> None:
        """Send as many of the waiting jobs as may run beside the running ones."""
        while waiting and len(running) < self._jobs:
            taken = [asked.job.gpu for asked in running.values()]
            job = replace(waiting.popleft(), gpu=choose_share(self.greeting.gpus, taken, self._jobs))
            self._unsent += json.dumps(job.to_json()).encode() + b"\n"
            self._compiles = self._compiles or (self._lacks_kernels and job.device != "cpu")
            running[job.id] = AskedJob(job, outcomes[job.id])

    def _receive_message(self, patience: float) -> Any | None:
        """The next message that speaks of jobs; None when the worker has ended, or made no sense.

        Kernels that it has compiled are kept on the way.
        """
        while self._take_kernels(message := self._receive_line(patience)):
            pass
        return message

    def _take_kernels(self, message: Any) -> bool:
        """Keep the kernels that a message brings, an empty text if there are none; whether it is of such a kind."""
        packed = message.get("kernels") if isinstance(message, dict) else None
        if not isinstance(packed, str):
            return False
        self._lacks_kernels = self._compiles = False
        if packed and self._kernels:
            self._kernels.store_kernels(packed)
        return True

    def _receive_line(self, patience: float) -> Any | None:
        """What the next line says; None when the worker has ended, or said nothing for longer than any job may take.

        Sends what is to be sent meanwhile: a worker that waits to be heard reads nothing.
        """
        found = b"\n" in self._unread
        while not found:
            writers = [self._requests] if self._unsent else []
            ready, writable, _ = select.select([self._answers], writers, [], patience)
            if writable:
                self._send_job()
            data = os.read(self._answers, _PIECE) if ready else b""
            self._unread += data
            found = b"\n" in data
            if len(self._unread) > _LONGEST_MESSAGE or not (data or (writable and not ready)):
                return None
        line, _, self._unread = self._unread.partition(b"\n")
        try:
            return message_checks.parsed(bytes(line))
        except NonsenseError:
            return None

    def _send_job(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._requests, self._unsent[:_PIECE]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # that it has ended is seen where it is read
            self._unsent = b""


def _descriptors(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """The descriptors on which a process answers, and is asked."""
    assert process.stdout is not None
    assert process.stdin is not None
    return process.stdout.fileno(), process.stdin.fileno()


def _left(jobs: Sequence[Job], outcomes: Mapping[int, Mapping[str, Outcome]]) -> list[tuple[Job, TargetRequest]]:
    """The targets that have no outcome, each with its job."""
    return [(job, target) for job in jobs for target in job.targets if target.symbol not in outcomes[job.id]]


def _number(message: Any) -> int:
    """The number of the job that a message speaks of; -1 for what is no message."""
    number = message.get("job") if isinstance(message, dict) else None
    return number if type(number) is int else -1


@dataclass
class AskedJob:
    """A job that runs, and its outcomes by symbol; ``last`` is the symbol of the one that came last."""

    job: Job
    outcomes: dict[str, Outcome]
    last: str | None = None

    def hear(self, message: Mapping[str, Any]) -> Outcome | None:
        """Take an outcome, or that the job's process came to a bad end."""
        if message.get("died"):
            self.retract()
        outcome = self._outcome(message["outcome"]) if "outcome" in message else None
        if outcome is None or outcome.symbol in self.outcomes:
            return None
        self.outcomes[outcome.symbol] = outcome
        self.last = outcome.symbol
        return outcome

    def retract(self) -> None:
        """Forget what a process said last that has died: it is no evidence."""
        if self.last is not None:
            del self.outcomes[self.last]
            self.last = None

    def left(self) -> TargetRequest | None:
        """The first target that has no outcome."""
        return next((target for target in self.job.targets if target.symbol not in self.outcomes), None)

    def _outcome(self, text: Any) -> Outcome | None:
        """An outcome that was asked for; in the place of any other the reason of the target that ran."""
        try:
            outcome = Outcome.from_json(message_checks.parsed(message_checks.text(text, LONGEST_ANSWER)))
            self.job.admit(outcome)
        except NonsenseError as error:
            target = self.left()
            reason = Reason(ReasonCode.NONSENSE_ANSWER, {"reason": error.reason})
            return Outcome(self.job.id, target.symbol, reason=reason) if target else None
        return outcome


def _list_running_targets(running: Mapping[int, AskedJob]) -> list[tuple[Job, TargetRequest]]:
    """What runs: of each job the first target that has no outcome."""
    left = ((asked.job, asked.left()) for asked in running.values())
    return [(job, target) for job, target in left if target is not None]


def _compute_patience(job: Job) -> float:
    """Seconds after which the worker itself has certainly given a job up."""
    return 60 + job.import_time + len(job.targets) * (job.longest_wait + 1)


def choose_share(gpus: Sequence[str], running: Iterable[GpuShare | None], width: int) -> GpuShare | None:
    """The GPU with the shortest queue, the first of several, for one more job; None where there is no GPU.

    ``running`` is what the jobs have that run now. The share of its memory is what each of ``width`` jobs has where all
    run that may: it is the same whatever else runs, so that a verdict does not depend on that.
    """
    if not gpus:
        return None
    queues = Counter(share.visible for share in running if share)
    beside = -(-width // len(gpus))
    return GpuShare(min(gpus, key=lambda gpu: queues[gpu]), 1 / max(1, beside))
