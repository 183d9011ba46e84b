"""Runs the targets and their neutralised variants, and gives every suspect a disposition."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import Any

from theria.verdicts import Verdict, worst
from theria_lint.dynamic.attribution import Evidence, Ruling, rule_on, verdict_of, worst_run
from theria_lint.dynamic.pool import Worker, WorkerError
from theria_lint.dynamic.protocol import Job, Outcome, TargetRequest
from theria_lint.dynamic.reach import Reach
from theria_lint.model import (
    Disposition,
    Environment,
    Finding,
    LintError,
    SourceFile,
    Suspect,
    Target,
    TargetResult,
)
from theria_lint.static import neutralise

Progress = Callable[[str, int, int], None]
"""Called with what has just run, how many runs are done and how many are known of."""

PAIRS = 10
"""How many pairs of suspects are tried where no suspect alone explains a failure."""

SKIPPED = "the configuration says to skip it"
"""The reason of a target that was not run because its table says ``skip = true``."""


@dataclass(frozen=True)
class ConfirmSettings:
    """How the dynamic stage runs: whose Python, where, for how long (seconds a target), with how much memory (bytes).

    ``targets`` holds the tables ``[[tool.theria-lint.targets]]`` of the configuration.
    """

    python: str = sys.executable
    device: str = "auto"
    timeout: float = 30.0
    jobs: int = os.cpu_count() or 1
    memory: int = 4 << 30
    targets: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Confirmation:
    """What the dynamic stage found out."""

    findings: tuple[Finding, ...]
    targets: tuple[TargetResult, ...]
    environment: Environment
    errors: tuple[LintError, ...] = ()
    notes: tuple[str, ...] = ()
    protections: Mapping[str, str | None] = field(default_factory=dict)


def confirm(files: Sequence[SourceFile], settings: ConfirmSettings, progress: Progress | None = None) -> Confirmation:
    """Runs every target of the files and rules on every suspect.

    Where nothing can be run at all, every suspect is unconfirmed and a note says why, in one sentence.
    """
    if not any(file.targets for file in files):
        findings = [_unmet(suspect) for file in files for suspect in file.suspects]
        return Confirmation(tuple(findings), (), Environment())
    try:
        worker = Worker(settings.python, settings.device, settings.jobs)
    except WorkerError as error:
        findings = [Finding(s, Disposition.UNCONFIRMED, None, str(error)) for file in files for s in file.suspects]
        return Confirmation(tuple(findings), (), Environment(), notes=(str(error),))
    with worker:
        return _Confirmer(files, settings, worker, progress).confirm()


@dataclass(eq=False)
class _Case:
    """One target on its way to its rulings; ``reached`` grows as neutralised variants get further."""

    file: SourceFile
    target: Target
    hints: dict[str, Any]
    baseline: Outcome
    reached: list[Suspect] = field(default_factory=list)
    clean: Outcome | None = None

    def request(self, *, counterfactual: bool) -> TargetRequest:
        """What to ask of the worker: of a counterfactual, no backend that told only what the reference did."""
        hints = self.hints
        if counterfactual:
            told = {run.backend: run.verdict for run in self.baseline.runs}
            spare = [name for name, verdict in told.items() if name != "self" and verdict is told.get("reference")]
            hints = hints | {
                "maml": False,
                "backends": [name for name in told if name not in spare or name == "reference"],
            }
        return TargetRequest(self.target.symbol, str(self.target.kind), hints)

    @property
    def neutralisable(self) -> list[Suspect]:
        return [s for s in self.reached if s.neutraliser is not None]

    @property
    def fixed(self) -> list[Suspect]:
        return [s for s in self.reached if s.neutraliser is None]


Variant = tuple["_Case", frozenset[Suspect]]
"""A case and the suspects that are neutralised in it."""


class _Confirmer:
    """One run of the dynamic stage over some files."""

    def __init__(
        self, files: Sequence[SourceFile], settings: ConfirmSettings, worker: Worker, progress: Progress | None
    ) -> None:
        self._files = files
        self._settings = settings
        self._worker = worker
        self._progress = progress
        self._sources = {os.path.abspath(file.path): file.source for file in files}
        self._reach = {os.path.abspath(f.path): Reach(f.source, f.suspects) for f in files if f.suspects}
        self._done = 0
        self._known = 0
        self._next = 0

    def confirm(self) -> Confirmation:
        cases = self._baselines()
        self._clean(cases)
        rulings: dict[Suspect, list[tuple[_Case, Ruling]]] = {}
        for case, evidence in self._evidence(cases).items():
            for suspect, ruling in rule_on(evidence, case.neutralisable, case.fixed).items():
                rulings.setdefault(suspect, []).append((case, ruling))
        findings = tuple(
            self._finding(suspect, rulings.get(suspect, []), cases) for file in self._files for suspect in file.suspects
        )
        results = tuple(_result(case) for case in cases)
        return Confirmation(findings, results, self._worker.environment, protections=self._worker.protections)

    def _baselines(self) -> list[_Case]:
        """Every target as it is."""
        wanted = [(file, target) for file in self._files for target in file.targets]
        cases = [_Case(f, t, self._hints(f, t), Outcome(-1, t.symbol, reason=SKIPPED)) for f, t in wanted]
        running = [case for case in cases if not case.hints.get("skip")]
        for case, outcome in zip(running, self._run([(case, frozenset()) for case in running]), strict=True):
            case.baseline = outcome
            self._extend(case, outcome)
        return cases

    def _clean(self, cases: list[_Case]) -> None:
        """Each unsafe target with all its suspects neutralised, until no further suspect comes into reach.

        What cuts the graph early hides what stands behind it: a backward runs only once the forward is whole.
        """
        growing = [case for case in cases if verdict_of(case.baseline).unsafe]
        for case in growing:
            case.clean = case.baseline
        growing = [case for case in growing if case.neutralisable]
        while growing:
            before = [len(case.reached) for case in growing]
            for case, outcome in zip(
                growing, self._run([(c, frozenset(c.neutralisable)) for c in growing]), strict=True
            ):
                case.clean = outcome
                self._extend(case, outcome)
            growing = [case for case, size in zip(growing, before, strict=True) if len(case.reached) > size]

    def _evidence(self, cases: list[_Case]) -> dict[_Case, Evidence]:
        """The counterfactuals of every unsafe target; the others need none."""
        open_ = [case for case in cases if case.clean is not None]
        alone = self._subsets([(case, (s,)) for case in open_ for s in case.neutralisable])
        evidence = {
            case: Evidence(
                case.baseline,
                case.clean or case.baseline,
                {s: alone[case, (s,)] for s in case.neutralisable if case.clean},
            )
            for case in cases
        }
        stuck = [case for case in open_ if self._unexplained(case, evidence[case])]
        wanted: list[tuple[_Case, tuple[Suspect, ...]]] = [
            (case, pair) for case in stuck for pair in islice(combinations(case.neutralisable, 2), PAIRS)
        ]
        pairs = self._subsets(wanted)
        for case in stuck:
            found = {(pair[0], pair[1]): pairs[other, pair] for other, pair in wanted if other is case}
            old = evidence[case]
            evidence[case] = Evidence(old.baseline, old.clean, old.alone, found)
        return evidence

    @staticmethod
    def _unexplained(case: _Case, evidence: Evidence) -> bool:
        if verdict_of(evidence.clean) is not Verdict.SAFE or len(case.neutralisable) < 3:
            return False
        return all(verdict_of(outcome) is Verdict.SAFE for outcome in evidence.alone.values())

    def _subsets(
        self, wanted: list[tuple[_Case, tuple[Suspect, ...]]]
    ) -> dict[tuple[_Case, tuple[Suspect, ...]], Outcome]:
        """Each case with only the given suspects left; what equals the baseline is not run again."""
        known: dict[tuple[_Case, tuple[Suspect, ...]], Outcome] = {}
        variants: list[Variant] = []
        keys = []
        for case, left in wanted:
            neutralised = frozenset(case.neutralisable) - set(left)
            if not neutralised:
                known[case, left] = case.baseline
            else:
                variants.append((case, neutralised))
                keys.append((case, left))
        return known | dict(zip(keys, self._run(variants), strict=True))

    def _run(self, variants: list[Variant]) -> list[Outcome]:
        """Runs variants; those of one file with the same sources share a job, so that it is imported once."""
        groups: dict[tuple[str, frozenset[Suspect]], list[int]] = {}
        for index, (case, neutralised) in enumerate(variants):
            groups.setdefault((case.file.path, neutralised), []).append(index)
        self._known += len(variants)
        jobs, members = [], {}
        outcomes: dict[int, Outcome] = {}
        for (path, neutralised), indices in groups.items():
            requests = tuple(variants[i][0].request(counterfactual=bool(neutralised)) for i in indices)
            try:
                overrides = self._overrides(neutralised)
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

    def _job(self, path: str, requests: tuple[TargetRequest, ...], overrides: dict[str, str]) -> Job:
        self._next += 1
        device = self._worker.environment.device or "cpu"
        return Job(
            id=self._next,
            path=os.path.abspath(path),
            targets=requests,
            overrides=overrides,
            watched=tuple(self._reach),
            device=device,
            timeout=self._settings.timeout,
            memory=self._settings.memory,
        )

    def _overrides(self, neutralised: Iterable[Suspect]) -> dict[str, str]:
        by_path: dict[str, list[Suspect]] = {}
        for suspect in neutralised:
            by_path.setdefault(os.path.abspath(suspect.path), []).append(suspect)
        return {path: neutralise(self._sources[path], suspects) for path, suspects in by_path.items()}

    def _tell(self, outcome: Outcome) -> None:
        self._done += 1
        if self._progress:
            self._progress(outcome.symbol, self._done, self._known)

    def _extend(self, case: _Case, outcome: Outcome) -> None:
        """Adds the suspects that an outcome shows to have run."""
        for path, executed in outcome.places.items():
            case.reached += [s for s in self._reach[path].reached(executed) if s not in case.reached]

    def _hints(self, file: SourceFile, target: Target) -> dict[str, Any]:
        for table in self._settings.targets:
            name = str(table.get("target", ""))
            if name.rpartition(":")[2] == target.symbol and _names_file(name.rpartition(":")[0], file.path):
                return {key: value for key, value in table.items() if key != "target"}
        return {}

    def _finding(self, suspect: Suspect, rulings: list[tuple[_Case, Ruling]], cases: list[_Case]) -> Finding:
        """A suspect's disposition over all its targets: confirmed by one is confirmed."""
        for disposition in (Disposition.CONFIRMED, Disposition.CLEARED, Disposition.UNCONFIRMED):
            chosen = [(case, ruling) for case, ruling in rulings if ruling.disposition is disposition]
            if chosen:
                verdict = worst(verdict_of(case.baseline) for case, _ in rulings)
                return Finding(suspect, disposition, verdict, chosen[0][1].reason)
        return _unreached(suspect, cases)


def _names_file(module: str, path: str) -> bool:
    """Whether a dotted module name, or nothing, fits a path."""
    dotted = os.path.splitext(path)[0].replace(os.sep, ".").removesuffix(".__init__")
    return not module or dotted == module or dotted.endswith("." + module)


def _unreached(suspect: Suspect, cases: list[_Case]) -> Finding:
    """No target executed the suspect: says which ones could have."""
    near = [c for c in cases if c.file.path == suspect.path and suspect.symbol in c.target.reaches]
    ran = [c for c in near if verdict_of(c.baseline) is not Verdict.INCONCLUSIVE]
    if ran:
        names = ", ".join(c.target.symbol for c in ran[:3])
        reason = (
            f"not reached by {names} as the probe calls it: name arguments that take this branch in the configuration"
        )
        return Finding(suspect, Disposition.UNCONFIRMED, worst(verdict_of(c.baseline) for c in near), reason)
    if near:
        return Finding(
            suspect,
            Disposition.UNCONFIRMED,
            Verdict.INCONCLUSIVE,
            f"{near[0].target.symbol}: {near[0].baseline.reason or _result(near[0]).reason}",
        )
    return _unmet(suspect)


def _unmet(suspect: Suspect) -> Finding:
    reason = "no attention callable that can be run was found to execute it: name one in the configuration"
    return Finding(suspect, Disposition.UNCONFIRMED, None, reason)


def _result(case: _Case) -> TargetResult:
    run = worst_run(case.baseline)
    if run is None:
        return TargetResult(case.target, Verdict.INCONCLUSIVE, case.baseline.reason)
    reason = run.reason or run.error or ""
    return TargetResult(case.target, run.verdict, reason, case.baseline.runs)
