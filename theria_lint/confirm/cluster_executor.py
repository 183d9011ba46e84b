"""Run jobs on the workers of a cluster, by a pool that takes requests; the worker's side is `cluster_worker`."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from theria_lint.confirm import message_checks
from theria_lint.confirm.cluster_pools import ClusterPool, ExecutorError
from theria_lint.confirm.cluster_worker import describe_installation, run_on_worker
from theria_lint.confirm.executor import OutcomeListener
from theria_lint.confirm.outcome_cache import SnapshotChecker
from theria_lint.confirm.protocol import Greeting, Job, Outcome, TargetRequest, read_reason
from theria_lint.confirm.worker_client import AskedJob
from theria_lint.reasons import Reason, ReasonCode

_TICK = 0.2
"""Seconds between two looks at whether the run has been ended."""

_LOOK = 5.0
"""Seconds between two looks at whether there is any worker at all."""

_MOST_SENT = 1_000
"""How many requests wait for an answer at a time: a scheduler holds them, and each answer has them looked through."""

_MOST_STARTS = 2
"""How often jobs are begun: a worker that dies costs them one retry."""


@dataclass(eq=False)
class _Parcel:
    """Jobs that one worker runs; ``name`` is what its pool says when they begin, ``sent`` how often they were sent."""

    name: str
    jobs: Sequence[Job]
    sent: int = 0


class _Absence:
    """For how long a pool has had no worker, as far as somebody has looked."""

    def __init__(self, pool: ClusterPool) -> None:
        self._pool = pool
        self._met = self._looked = time.monotonic()

    def is_too_long(self) -> bool:
        """Whether none is waited for any more."""
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self._looked = now
            self._met = now if self._pool.count_workers() else self._met
        return now - self._met > self._pool.patience + _LOOK


class ClusterExecutor:
    """Sends jobs to a pool's workers, and believes them as far as they say what they were asked.

    A worker has to have the linter, the torch and all files that a run reads as they are on this machine.
    """

    def __init__(self, pool: ClusterPool, name: str, python: str, device: str) -> None:
        """Use a pool of the given name; `wait_for_greeting` waits until it is ready."""
        self._pool = pool
        self._name = name
        self._python = python
        self._device = device
        self._ended = False
        self._numbers = count()
        self._starts: Counter[str] = Counter()
        self._files = SnapshotChecker()
        self._installation = describe_installation(python)
        self.greeting = Greeting()
        pool.watch_starts(self._hear_start)

    @property
    def width(self) -> int:
        """How many jobs run at a time."""
        return max(1, self._pool.count_workers())

    def wait_for_greeting(self) -> None:
        """Have a worker say what it is before any job is sent.

        Raises:
            ExecutorError: if none answers, or one that differs from this machine.
        """
        future = self._send(self._wrap(()))
        until = time.monotonic() + self._pool.patience
        while not self._ended and not future.done() and time.monotonic() < until:
            wait([future], timeout=_TICK)
        if not future.done():
            future.cancel()
            raise ExecutorError(ReasonCode.EXECUTOR_SILENT, **self._describe_silence())
        try:
            refusal = self._read_answer(future).refusal
        except Exception as error:
            raise ExecutorError(ReasonCode.EXECUTOR_FAILS, **self._describe(error)) from None
        if refusal:
            raise ExecutorError(refusal.code, **refusal.data)

    def run_jobs(self, jobs: Sequence[Job], listener: OutcomeListener) -> dict[int, dict[str, Outcome]]:
        """Run jobs and return the outcomes of each, by symbol, as far as there are any.

        Those of a worker that dies are sent once more.
        """
        asked = {job.id: AskedJob(job, {}) for job in jobs}
        parcels = deque(map(self._wrap, self._pool.group_jobs(jobs)))
        waiting: dict[Future[str], _Parcel] = {}
        running: list[_Parcel] | None = None
        absence = _Absence(self._pool)
        while (parcels or waiting) and not (self._ended or absence.is_too_long()):
            while parcels and len(waiting) < _MOST_SENT:
                parcel = parcels.popleft()
                waiting[self._send(parcel)] = parcel
            wait(waiting, timeout=_TICK, return_when=FIRST_COMPLETED)
            for future in [future for future in waiting if future.done()]:  # also what was cancelled, unlike what waits
                parcel = waiting.pop(future)
                said = self._hear(future, parcel, asked)
                if said is None:
                    parcels.append(parcel)
                for outcome in said or ():
                    listener(outcome, _list_targets(running or ()))
            begun = [parcel for parcel in waiting.values() if self._starts[parcel.name]]
            if begun != running:
                running = begun
                listener(None, _list_targets(running))
            self._cancel(future for future, parcel in waiting.items() if self._starts[parcel.name] > _MOST_STARTS)
        self._cancel(waiting)
        if not self._ended:
            for parcel in (*waiting.values(), *parcels):
                _refuse(parcel.jobs, Reason(ReasonCode.EXECUTOR_SILENT, self._describe_silence()), asked)
        return {number: found.outcomes for number, found in asked.items()}

    def end_jobs(self) -> None:
        """Wait for nothing any more; safe in a signal handler."""
        self._ended = True

    def close(self) -> None:
        """Leave the cluster: what has not begun does not begin, and what a worker has begun it ends for nobody."""
        self.end_jobs()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _wrap(self, jobs: Sequence[Job]) -> _Parcel:
        return _Parcel(f"{next(self._numbers)}", jobs)

    def _send(self, parcel: _Parcel) -> Future[str]:
        parcel.sent += 1
        request = {
            "installation": self._installation,
            "python": self._python,
            "device": self._device if self._device != "auto" else self.greeting.environment.device or "auto",
            "jobs": [{**job.to_json(), "sources": job.sources} for job in parcel.jobs],
        }
        try:
            return self._pool.submit(run_on_worker, json.dumps(request), name=parcel.name)
        except Exception as error:  # of the cluster, which takes nothing: as if it had taken it, and lost
            failed: Future[str] = Future()
            failed.set_exception(error)
            return failed

    def _hear_start(self, name: str) -> None:
        self._starts[name] += 1

    def _cancel(self, futures: Iterable[Future[str]]) -> None:
        for future in futures:
            future.cancel()

    def _hear(self, future: Future[str], parcel: _Parcel, asked: Mapping[int, AskedJob]) -> list[Outcome] | None:
        """The outcomes of what was sent, which are filed; None where it is to be sent again."""
        try:
            answer = self._read_answer(future)
        except Exception as error:  # of the pool, of the worker, or of what it has sent
            if max(parcel.sent, self._starts[parcel.name]) < _MOST_STARTS:
                return None
            answer = _Answer(Reason(ReasonCode.WORKER_LOST, self._describe(error)))
        if answer.refusal:
            return _refuse(parcel.jobs, answer.refusal, asked)
        said = [asked[job].hear({"outcome": text}) for job, text in answer.outcomes if job in asked]
        return [self._hold_against_files(outcome, answer, asked) for outcome in said if outcome]

    def _hold_against_files(self, outcome: Outcome, answer: _Answer, asked: Mapping[int, AskedJob]) -> Outcome:
        """An outcome, if all that it was made from is the same on this machine."""
        for path in outcome.reads.files if outcome.reads else ():
            if answer.digests.get(path) != self._files.digest_file(path):
                reason = Reason(ReasonCode.FILE_DIFFERS, {"worker": answer.worker, "file": path})
                outcome = Outcome(outcome.job, outcome.symbol, reason=reason)
                asked[outcome.job].outcomes[outcome.symbol] = outcome
                break
        return outcome

    def _read_answer(self, future: Future[str]) -> _Answer:
        """What a worker has answered; what it says of itself has to be what the first one has said."""
        data = message_checks.parsed(future.result())
        answer = _Answer.from_json(data)
        if answer.refusal:
            return answer
        here, there = self.greeting, answer.greeting
        for name, value in here.environment._asdict().items() if here.environment.torch else ():
            if (other := getattr(there.environment, name)) != value:
                told = {"worker": answer.worker, "what": name, "there": str(other), "here": str(value)}
                return _Answer(Reason(ReasonCode.WORKER_DIFFERS, told))
        lacking = {name: why for name, why in here.protections.items() if why}
        known = here if here.environment.torch else there
        self.greeting = replace(known, protections={**there.protections, **lacking})
        return answer

    def _describe_silence(self) -> dict[str, Any]:
        return {"executor": self._name, "seconds": self._pool.patience}

    def _describe(self, error: Exception) -> dict[str, str]:
        return {"executor": self._name, "kind": type(error).__name__, "message": str(error)}


@dataclass(frozen=True)
class _Answer:
    """What a worker has answered: why it refuses what was sent, or outcomes by job and the digests of what was read."""

    refusal: Reason | None = None
    worker: str = ""
    greeting: Greeting = field(default_factory=Greeting)
    outcomes: Sequence[tuple[int, str]] = ()
    digests: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Any) -> _Answer:
        """What `cluster_worker.run_on_worker` says; NonsenseError for anything else."""
        if isinstance(data, dict) and "refusal" in data:
            return cls(read_reason(data["refusal"]))
        data = message_checks.fields(data, ("worker", "greeting", "outcomes", "digests"))
        return cls(
            None,
            message_checks.name(data["worker"]),
            Greeting.from_json(data["greeting"]),
            [(message_checks.index(job, -1), text) for job, text in data["outcomes"]],
            data["digests"],
        )


def _refuse(jobs: Sequence[Job], reason: Reason, asked: Mapping[int, AskedJob]) -> list[Outcome]:
    """Outcomes with a reason in the place of all, which are filed."""
    refused = [Outcome(job.id, target.symbol, reason=reason) for job in jobs for target in job.targets]
    for outcome in refused:
        asked[outcome.job].outcomes[outcome.symbol] = outcome
    return refused


def _list_targets(running: Iterable[_Parcel]) -> list[tuple[Job, TargetRequest]]:
    """The first target of each job that has begun."""
    return [(job, job.targets[0]) for parcel in running for job in parcel.jobs]
