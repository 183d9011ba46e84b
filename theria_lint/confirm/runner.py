"""Gives the outcomes of variants: from the cache where it has them, from a worker otherwise."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from itertools import count
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from theria_lint.confirm.outcome_cache import OutcomeCache, Surroundings
from theria_lint.confirm.protocol import Job, Outcome, TargetRequest, WorkerError
from theria_lint.result import Environment, Progress

if TYPE_CHECKING:
    from theria_lint.confirm.worker_client import Worker

INTERRUPTED = "interrupted: run theria-lint again"
"""The reason of a target that was not run, or not to its end, because the user ended the run."""

ENDED = "it ended the process that watched over it, or importing its file did"
"""The reason of a target that left nobody to tell what became of it."""

_SHARES = 4
"""Into how many jobs a processor's part of the work is cut, so that all end at about the same time."""


@dataclass(frozen=True)
class Batch:
    """Targets of one file to run in one variant of it.

    ``recipe`` has what the variant is made from, in any form that is equal only for equal variants; ``rewrite`` makes
    the texts that take the place of files, by absolute path, and is called only if something has to be run.
    ``watched`` lists the absolute paths of which the executed places are wanted; ``digests`` and ``sources`` as in
    `Job`.
    """

    path: str
    targets: tuple[TargetRequest, ...]
    recipe: str
    rewrite: Callable[[], Mapping[str, str]]
    watched: tuple[str, ...]
    digests: Mapping[str, str]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Means:
    """How to run: whose Python, on which device, how many processes, seconds a target, bytes of memory a child."""

    python: str
    device: str
    jobs: int
    timeout: float
    memory: int


@dataclass(eq=False)
class Runner:
    """Starts a worker when something has to be run; used as a context manager, within which Ctrl-C ends all runs.

    ``interrupted``: that has happened, and outcomes that were not known by then have ``INTERRUPTED`` for a reason.
    """

    means: Means
    cache: OutcomeCache | None = None
    progress: Progress | None = None
    interrupted: bool = False
    surroundings: Surroundings = field(default_factory=lambda: Surroundings(Environment(), {}))
    _worker: Worker | None = None
    _texts: dict[str, list[str]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)
    _known: int = 0
    _done: int = 0
    _before: Any = None

    def __enter__(self) -> Runner:
        """Takes over what Ctrl-C does, where that can be done."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        self.surroundings = (self.cache and self.cache.surroundings()) or self.surroundings
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the worker and everything below it."""
        if self._worker is not None:
            self._worker.close()
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Ends the worker at once: whoever waits for it goes on. The second time Ctrl-C does what it does elsewhere."""
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._worker is not None:
            self._worker.end()

    def run(self, batches: Sequence[Batch]) -> list[list[Outcome]]:
        """The outcomes of each batch, in the order of its targets.

        Raises:
            WorkerError: if something has to be run and nothing can be.
        """
        self._known += sum(len(batch.targets) for batch in batches)
        found: list[dict[str, Outcome]] = [self._recall(batch) for batch in batches]
        self._done += sum(map(len, found))
        left = [
            (index, target)
            for index, batch in enumerate(batches)
            for target in batch.targets
            if target.symbol not in found[index]
        ]
        if left:
            self._work(batches, left, found)
        return [[found[index][target.symbol] for target in batch.targets] for index, batch in enumerate(batches)]

    def remembered(self, recipe: str, count: int, rewrite: Callable[[], list[str]]) -> list[str]:
        """The texts of a variant of so many files, which are not made again for the same recipe."""
        if recipe not in self._texts:
            kept = self.cache.texts(recipe) if self.cache else None
            fits = kept is not None and len(kept) == count
            self._texts[recipe] = kept if kept is not None and fits else rewrite()
            if self.cache and not fits:
                self.cache.keep_texts(recipe, self._texts[recipe])
        return self._texts[recipe]

    def _recall(self, batch: Batch) -> dict[str, Outcome]:
        if self.cache is None:
            return {}
        known = {t.symbol: self.cache.outcome(self._asked(batch, t), batch.watched) for t in batch.targets}
        return {symbol: outcome for symbol, outcome in known.items() if outcome and outcome.symbol == symbol}

    def _asked(self, batch: Batch, target: TargetRequest) -> str:
        means = [self.means.timeout, self.means.memory]
        return json.dumps([batch.path, asdict(target), batch.recipe, means], sort_keys=True, default=repr)

    def _work(
        self, batches: Sequence[Batch], left: Sequence[tuple[int, TargetRequest]], found: list[dict[str, Outcome]]
    ) -> None:
        """Has a worker run what is left, and files the outcomes."""
        worker = self._start()
        if worker is not None:
            jobs, owners = self._jobs(batches, left, found)
            for number, outcomes in worker.run(jobs, self._tell).items():
                for outcome in outcomes.values():
                    self._keep(batches[owners[number]], outcome)
                found[owners[number]] |= outcomes
        for index, target in left:
            reason = INTERRUPTED if self.interrupted else ENDED
            found[index].setdefault(target.symbol, Outcome(-1, target.symbol, reason=reason))

    def _start(self) -> Worker | None:
        """The worker, ready; None if the run was interrupted before it was."""
        from theria_lint.confirm.worker_client import Worker

        if self._worker is None and not self.interrupted:
            if self.cache:
                self.cache.begin()
            self._say("starting Python and PyTorch")
            self._worker = Worker(self.means.python, self.means.device, self.means.jobs)
            if self.interrupted:  # before there was a worker to end
                self._worker.end()
            import_module("theria_lint.ablate.rewriting")  # takes a while, and the worker is busy importing PyTorch
            try:
                self._worker.meet()
            except WorkerError:
                if self.interrupted:
                    return None
                raise
            self.surroundings = Surroundings(self._worker.environment, self._worker.protections)
            if self.cache:
                self.cache.keep_surroundings(self.surroundings, self._worker.reads)
        return None if self.interrupted else self._worker

    def _jobs(
        self, batches: Sequence[Batch], left: Sequence[tuple[int, TargetRequest]], found: list[dict[str, Outcome]]
    ) -> tuple[list[Job], dict[int, int]]:
        """Jobs for what is left, and the batch that each belongs to; targets that cannot be rewritten are filed."""
        size = -(-len(left) // (_SHARES * max(1, self.means.jobs)))
        jobs: list[Job] = []
        owners: dict[int, int] = {}
        for index, batch in enumerate(batches):
            wanted = tuple(target for owner, target in left if owner == index)
            if not wanted:
                continue
            try:
                overrides = dict(batch.rewrite())
            except Exception as error:  # a rewrite that fails is one counterfactual less, not the end of the run
                reason = f"it could not be rewritten ({type(error).__name__}: {error})"
                found[index] |= {t.symbol: Outcome(-1, t.symbol, reason=reason) for t in wanted}
                continue
            for first in range(0, len(wanted), size):
                job = self._job(batch, wanted[first : first + size], overrides)
                owners[job.id] = index
                jobs.append(job)
        return jobs, owners

    def _job(self, batch: Batch, targets: tuple[TargetRequest, ...], overrides: dict[str, str]) -> Job:
        return Job(
            id=next(self._numbers),
            path=batch.path,
            targets=targets,
            overrides=overrides,
            watched=batch.watched,
            device=self.surroundings.environment.device or "cpu",
            timeout=self.means.timeout,
            memory=self.means.memory,
            digests=dict(batch.digests),
            sources=dict(batch.sources),
        )

    def _keep(self, batch: Batch, outcome: Outcome) -> None:
        if self.cache is not None and outcome.reads is not None:
            target = next(t for t in batch.targets if t.symbol == outcome.symbol)
            self.cache.keep(self._asked(batch, target), batch.watched, outcome)

    def _tell(self, outcome: Outcome | None, running: Iterable[tuple[Job, TargetRequest]]) -> None:
        self._done += outcome is not None
        names = [target.symbol for _, target in running]
        self._say(", ".join(names))

    def _say(self, what: str) -> None:
        if self.progress:
            self.progress(what, self._done, self._known)
