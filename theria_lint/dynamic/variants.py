"""Runs variants of the targets in the worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from theria_lint.dynamic.cases import Case, Variant
from theria_lint.dynamic.pool import Worker
from theria_lint.dynamic.protocol import Job, Outcome, TargetRequest
from theria_lint.dynamic.reach import Reach
from theria_lint.model import SourceFile, Suspect
from theria_lint.static import neutralise

Progress = Callable[[str, int, int], None]
"""Called with what has just run, how many runs are done and how many are known of."""


class Variants:
    """Turns variants into jobs of the worker, and what they executed into suspects that were reached."""

    def __init__(
        self, files: Sequence[SourceFile], worker: Worker, *, timeout: float, memory: int, progress: Progress | None
    ) -> None:
        """``timeout`` in seconds a target, ``memory`` in bytes a child."""
        self._worker = worker
        self._timeout = timeout
        self._memory = memory
        self._progress = progress
        self._sources = {os.path.abspath(file.path): file.source for file in files}
        self._reach = {os.path.abspath(f.path): Reach(f.source, f.suspects) for f in files if f.suspects}
        self._done = 0
        self._known = 0
        self._next = 0

    def run(self, variants: Sequence[Variant]) -> list[Outcome]:
        """The outcome of each; those of one file with the same sources share a job, so that it is imported once."""
        groups: dict[tuple[str, frozenset[Suspect]], list[int]] = {}
        for index, (case, neutralised) in enumerate(variants):
            groups.setdefault((case.file.path, neutralised), []).append(index)
        self._known += len(variants)
        jobs, members = [], {}
        outcomes: dict[int, Outcome] = {}
        for (path, neutralised), indices in groups.items():
            requests = tuple(variants[i][0].request(counterfactual=bool(neutralised)) for i in indices)
            try:
                overrides = self.texts(neutralised)
            except Exception as error:  # a rewrite that fails is one counterfactual less, not the end of the run
                reason = f"it could not be rewritten ({type(error).__name__}: {error})"
                outcomes |= {i: Outcome(-1, variants[i][0].target.symbol, reason=reason) for i in indices}
                continue
            job = self._job(path, requests, overrides)
            jobs.append(job)
            members[job.id] = indices
        for job_id, results in self._worker.run(jobs, self._tell).items():
            outcomes |= dict(zip(members[job_id], results, strict=True))
        return [outcomes[index] for index in range(len(variants))]

    def extend(self, case: Case, outcome: Outcome) -> None:
        """Adds the suspects that an outcome shows to have run."""
        for path, executed in outcome.places.items():
            case.reached += [s for s in self._reach[path].reached(executed) if s not in case.reached]

    def texts(self, neutralised: Iterable[Suspect]) -> dict[str, str]:
        """The files that a variant changes, by absolute path."""
        by_path: dict[str, list[Suspect]] = {}
        for suspect in neutralised:
            by_path.setdefault(os.path.abspath(suspect.path), []).append(suspect)
        return {path: neutralise(self._sources[path], suspects) for path, suspects in by_path.items()}

    def _job(self, path: str, requests: tuple[TargetRequest, ...], overrides: dict[str, str]) -> Job:
        self._next += 1
        return Job(
            id=self._next,
            path=os.path.abspath(path),
            targets=requests,
            overrides=overrides,
            watched=tuple(self._reach),
            device=self._worker.environment.device or "cpu",
            timeout=self._timeout,
            memory=self._memory,
        )

    def _tell(self, outcome: Outcome) -> None:
        self._done += 1
        if self._progress:
            self._progress(outcome.symbol, self._done, self._known)
