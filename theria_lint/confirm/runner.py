"""Get the outcomes of variants: from the cache, or from an executor that is opened when it is first needed."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from itertools import count
from threading import Timer
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from theria_lint.confirm.executor import JobExecutor
from theria_lint.confirm.outcome_cache import OutcomeCache, WorkerInfo
from theria_lint.confirm.protocol import Job, Outcome, TargetRequest, WorkerError
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.result import Environment, Progress

_JOBS_PER_PROCESS = 4
"""Into how many jobs a processor's part of the work is cut, so that all end at about the same time."""


STARTING = ""
"""What the line of progress is told where nothing runs yet: the worker starts."""


@dataclass(frozen=True)
class VariantBatch:
    """Targets of one file to run in one variant of it.

    ``recipe`` has what the variant is made from, in any form that is equal only for equal variants; ``rewrite`` makes
    the texts that take the place of files, by absolute path, and is called only if something has to be run.
    ``watched`` lists the absolute paths of which the executed places are wanted; ``digests`` and ``sources`` as in
    `Job`.
    """

    path: str
    targets: tuple[TargetRequest, ...]
    variant_key: str
    rewrite: Callable[[], Mapping[str, str]]
    watched: tuple[str, ...]
    digests: Mapping[str, str]
    sources: Mapping[str, str]


class RunLimits(NamedTuple):
    """What a target may take: seconds, and bytes of memory; how many seconds the run, and when it ends for that."""

    timeout: float
    memory: int
    max_time: float = 0.0
    until: float | None = None


@dataclass(eq=False)
class VariantRunner:
    """Opens an executor when something has to be run; used as a context manager, within which Ctrl-C ends all runs.

    ``interrupted``: that has happened, and outcomes that were not known by then have the reason ``INTERRUPTED``;
    ``spent``: the time of the run is over, and the reason is ``OUT_OF_BUDGET``.
    ``seconds``: how long each target ran, by its path and symbol.
    """

    limits: RunLimits
    open_executor: Callable[[], JobExecutor]
    cache: OutcomeCache | None = None
    progress: Progress | None = None
    interrupted: bool = False
    spent: bool = False
    worker_info: WorkerInfo = field(default_factory=lambda: WorkerInfo(Environment(), {}))
    _worker: JobExecutor | None = None
    _texts: dict[str, list[str]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)
    _known: int = 0
    _done: int = 0
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    _begun: dict[tuple[int, str], tuple[str, float]] = field(default_factory=dict)
    _before: Any = None
    _alarm: Timer | None = None

    def __enter__(self) -> VariantRunner:
        """Take over what Ctrl-C does, where that can be done, and let time run out."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle_interrupt)
        if self.limits.until is not None:
            left = self.limits.until - time.monotonic()
            self.spent = left <= 0
            self._alarm = Timer(max(0.0, left), self._end_for_time)
            self._alarm.daemon = True
            self._alarm.start()
        self.worker_info = (self.cache and self.cache.load_worker_info()) or self.worker_info
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the worker and everything below it."""
        if self._worker is not None:
            if kind is not None:
                self._worker.end_jobs()
            self._worker.close()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle_interrupt(self, number: int, frame: FrameType | None) -> None:
        """End the worker at once: whoever waits for it goes on. The second time Ctrl-C does what it does elsewhere."""
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._worker is not None:
            self._worker.end_jobs()

    def _end_for_time(self) -> None:
        """End the worker, as Ctrl-C does: the time of the run is over. What is known by then is reported."""
        self.spent = True
        if self._worker is not None:
            self._worker.end_jobs()

    @property
    def width(self) -> int:
        """How many jobs run side by side; none before the first has to be run."""
        return self._worker.width if self._worker is not None else 0

    def run_batches(self, batches: Sequence[VariantBatch]) -> list[list[Outcome]]:
        """The outcomes of each batch, in the order of its targets.

        Raises:
            WorkerError: if something has to be run and nothing can be.
        """
        self._known += sum(len(batch.targets) for batch in batches)
        found: list[dict[str, Outcome]] = [self._load_known_outcomes(batch) for batch in batches]
        self._done += sum(map(len, found))
        left = [
            (index, target)
            for index, batch in enumerate(batches)
            for target in batch.targets
            if target.symbol not in found[index]
        ]
        if left:
            self._run_remaining(batches, left, found)
        return [[found[index][target.symbol] for target in batch.targets] for index, batch in enumerate(batches)]

    def get_or_make_texts(self, variant_key: str, count: int, rewrite: Callable[[], list[str]]) -> list[str]:
        """The texts of a variant of so many files, which are not made again for the same recipe."""
        if variant_key not in self._texts:
            kept = self.cache.load_texts(variant_key) if self.cache else None
            fits = kept is not None and len(kept) == count
            self._texts[variant_key] = kept if kept is not None and fits else rewrite()
            if self.cache and not fits:
                self.cache.store_texts(variant_key, self._texts[variant_key])
        return self._texts[variant_key]

    def _load_known_outcomes(self, batch: VariantBatch) -> dict[str, Outcome]:
        if self.cache is None:
            return {}
        known = {
            t.symbol: self.cache.load_outcome(self._make_request_key(batch, t), batch.watched) for t in batch.targets
        }
        return {symbol: outcome for symbol, outcome in known.items() if outcome and outcome.symbol == symbol}

    def _make_request_key(self, batch: VariantBatch, target: TargetRequest) -> str:
        limits = [self.limits.timeout, self.limits.memory]
        return json.dumps([batch.path, asdict(target), batch.variant_key, limits], sort_keys=True, default=repr)

    def _run_remaining(
        self,
        batches: Sequence[VariantBatch],
        left: Sequence[tuple[int, TargetRequest]],
        found: list[dict[str, Outcome]],
    ) -> None:
        """Have a worker run what is left, and file the outcomes."""
        worker = self._start_worker()
        if worker is not None:
            jobs, owners = self._make_jobs(batches, left, found, worker.width)
            for number, outcomes in worker.run_jobs(jobs, self._report_outcome).items():
                for outcome in outcomes.values():
                    self._cache_outcome(batches[owners[number]], outcome)
                found[owners[number]] |= outcomes
            self.worker_info = replace(self.worker_info, protections=worker.greeting.protections)
        for index, target in left:
            found[index].setdefault(target.symbol, Outcome(-1, target.symbol, reason=self._find_reason_for_none()))

    def _find_reason_for_none(self) -> Reason:
        """Why there is no outcome; where nothing ended the run, the target left nobody to tell what became of it."""
        if self.interrupted:
            return Reason(ReasonCode.INTERRUPTED)
        if self.spent:
            return Reason(ReasonCode.OUT_OF_BUDGET, {"seconds": self.limits.max_time})
        return Reason(ReasonCode.WORKER_ENDED)

    def _start_worker(self) -> JobExecutor | None:
        """The worker, ready; None if the run was ended before it was."""
        if self._worker is None and not self._is_over:
            if self.cache:
                self.cache.mark_worker_start()
            self._report_progress(STARTING)
            self._worker = self.open_executor()
            if self._is_over:  # before there was a worker to end
                self._worker.end_jobs()
            import_module("theria_lint.ablate.rewriting")  # takes a while, and the worker is busy importing PyTorch
            try:
                self._worker.wait_for_greeting()
            except WorkerError:
                if self._is_over:
                    return None
                raise
            greeting = self._worker.greeting
            self.worker_info = WorkerInfo(greeting.environment, greeting.protections)
            if self.cache:
                self.cache.store_worker_info(self.worker_info, greeting.reads)
        return None if self._is_over else self._worker

    @property
    def _is_over(self) -> bool:
        return self.interrupted or self.spent

    def _make_jobs(
        self,
        batches: Sequence[VariantBatch],
        left: Sequence[tuple[int, TargetRequest]],
        found: list[dict[str, Outcome]],
        width: int,
    ) -> tuple[list[Job], dict[int, int]]:
        """Jobs for what is left, and the batch that each belongs to; targets that cannot be rewritten are filed."""
        size = -(-len(left) // (_JOBS_PER_PROCESS * width))
        jobs: list[Job] = []
        owners: dict[int, int] = {}
        for index, wanted in _group_by_batch(left).items():
            batch = batches[index]
            try:
                overrides = dict(batch.rewrite())
            except Exception as error:  # a rewrite that fails is one counterfactual less, not the end of the run
                told = {"kind": type(error).__name__, "message": str(error)}
                reason = Reason(ReasonCode.NOT_REWRITTEN, told)
                found[index] |= {t.symbol: Outcome(-1, t.symbol, reason=reason) for t in wanted}
                continue
            for first in range(0, len(wanted), size):
                job = self._make_job(batch, wanted[first : first + size], overrides)
                owners[job.id] = index
                jobs.append(job)
        return jobs, owners

    def _make_job(self, batch: VariantBatch, targets: tuple[TargetRequest, ...], overrides: dict[str, str]) -> Job:
        return Job(
            id=next(self._numbers),
            path=batch.path,
            targets=targets,
            overrides=overrides,
            watched=batch.watched,
            device=self.worker_info.environment.device or "cpu",
            timeout=self.limits.timeout,
            memory=self.limits.memory,
            digests=dict(batch.digests),
            sources=dict(batch.sources),
        )

    def _cache_outcome(self, batch: VariantBatch, outcome: Outcome) -> None:
        if self.cache is not None and outcome.reads is not None:
            target = next(t for t in batch.targets if t.symbol == outcome.symbol)
            self.cache.store_outcome(self._make_request_key(batch, target), batch.watched, outcome)

    def _report_outcome(self, outcome: Outcome | None, running: Iterable[tuple[Job, TargetRequest]]) -> None:
        self._done += outcome is not None
        asked = list(running)
        self._keep_times(outcome, asked)
        self._report_progress(", ".join(target.symbol for _, target in asked))

    def _keep_times(self, outcome: Outcome | None, running: Sequence[tuple[Job, TargetRequest]]) -> None:
        """What a target has taken since it was first seen running; the import counts for the first of its file."""
        now = time.monotonic()
        if outcome is not None and (found := self._begun.pop((outcome.job, outcome.symbol), None)):
            place = found[0], outcome.symbol
            self.seconds[place] = self.seconds.get(place, 0.0) + now - found[1]
        for job, target in running:
            self._begun.setdefault((job.id, target.symbol), (job.path, now))

    def _report_progress(self, what: str) -> None:
        if self.progress:
            self.progress(what, self._done, self._known)


def _group_by_batch(left: Iterable[tuple[int, TargetRequest]]) -> dict[int, tuple[TargetRequest, ...]]:
    found: dict[int, list[TargetRequest]] = {}
    for index, target in left:
        found.setdefault(index, []).append(target)
    return {index: tuple(targets) for index, targets in found.items()}
