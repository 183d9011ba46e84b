"""The entry point of the dynamic stage: run the targets, rule on every suspect, collect findings and verified fixes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from theria.verdicts import Verdict, worst
from theria_lint.cache import Place
from theria_lint.config import LOCAL
from theria_lint.confirm.call_hints import CallSource, find_recorded_hints
from theria_lint.confirm.coverage_map import asks_for_gpu
from theria_lint.confirm.evidence import Attribution, SuspectRuling, get_reason, get_worst_verdict
from theria_lint.confirm.executor import JobExecutor, KernelStore
from theria_lint.confirm.outcome_cache import OutcomeCache
from theria_lint.confirm.protocol import Outcome, WorkerError
from theria_lint.confirm.runner import RunLimits, VariantRunner
from theria_lint.confirm.schedule import VariantBatcher, attribute_cases, measure_cases
from theria_lint.confirm.target_case import TargetCase, Variant, make_cases
from theria_lint.model import Disposition, Finding, Rewrite, SourceFile, Suspect, TargetResult
from theria_lint.reasons import Reason, ReasonCode, holds_code
from theria_lint.result import Environment, LintError, Progress


@dataclass(frozen=True)
class ConfirmSettings:
    """How the dynamic stage runs: whose Python, where, for how long (seconds a target), with how much memory (bytes).

    ``targets`` holds the tables ``[[tool.theria-lint.targets]]`` of the configuration, ``adapters`` the files of
    functions that call targets; results are kept in ``cache``, unless it is None; ``calls`` says where recorded calls
    are, ``executor`` whose machines run the code. The run ends at ``until`` by the monotonic clock, ``max_time``
    seconds after its begin.
    """

    python: str = sys.executable
    device: str = "auto"
    timeout: float = 30.0
    jobs: int = os.cpu_count() or 1
    memory: int = 4 << 30
    targets: tuple[Mapping[str, Any], ...] = ()
    adapters: tuple[str, ...] = ()
    cache: Place | None = None
    calls: CallSource | None = None
    executor: str = LOCAL
    max_time: float = 0.0
    until: float | None = None


@dataclass(frozen=True)
class Confirmation:
    """What the dynamic stage found out; ``failure``: why the executor that was asked for could not be used."""

    findings: tuple[Finding, ...]
    targets: tuple[TargetResult, ...]
    environment: Environment
    errors: tuple[LintError, ...] = ()
    notes: tuple[Reason, ...] = ()
    protections: Mapping[str, Reason | None] = field(default_factory=dict)
    interrupted: bool = False
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict, compare=False)
    failure: Reason | None = None


def confirm_suspects(
    files: Sequence[SourceFile], settings: ConfirmSettings, progress: Progress | None = None
) -> Confirmation:
    """Run every target of the files and rule on every suspect.

    Where nothing can be run at all, every suspect is unconfirmed and a note says why, in one sentence.
    """
    if not any(file.targets for file in files):
        findings = [_report_without_target(suspect) for file in files for suspect in file.suspects]
        return Confirmation(tuple(findings), (), Environment())
    limits = RunLimits(settings.timeout, settings.memory, settings.max_time, settings.until)
    place = settings.cache
    cache = OutcomeCache(place, settings.python, settings.device, settings.executor) if place else None
    opener = partial(open_executor, settings.executor, settings.python, settings.device, settings.jobs, cache)
    try:
        with VariantRunner(limits, opener, cache, progress) as runner:
            return _run_confirmation(files, settings, runner)
    except WorkerError as error:
        reason = Reason(ReasonCode.NO_WORKER, {"reason": error.reason, "looked_at": []})
        findings = [Finding(s, Disposition.UNCONFIRMED, None, reason) for file in files for s in file.suspects]
        failure = error.reason if settings.executor != LOCAL else None
        return Confirmation(tuple(findings), (), Environment(), notes=(reason,), failure=failure)


def open_executor(name: str, python: str, device: str, jobs: int, kernels: KernelStore | None = None) -> JobExecutor:
    """The executor of a name, for an interpreter and a device, with so many jobs at a time. Raises WorkerError.

    ``kernels`` are kept for this machine alone.
    """
    if name == LOCAL:
        from theria_lint.confirm import worker_client

        return worker_client.WorkerClient(python, device, jobs, kernels)
    from theria_lint.confirm.cluster_executor import ClusterExecutor
    from theria_lint.confirm.cluster_pools import open_pool

    return ClusterExecutor(open_pool(name, jobs), name, python, device)


def _run_confirmation(files: Sequence[SourceFile], settings: ConfirmSettings, runner: VariantRunner) -> Confirmation:
    variants = VariantBatcher(files, runner)
    recorded, complaints = find_recorded_hints(files, settings.calls)
    cases = measure_cases(make_cases(files, settings.targets, settings.adapters, recorded), variants)
    findings = _collect_findings(files, cases, variants)
    results = tuple(case.build_result() for case in cases)
    around = runner.worker_info
    return Confirmation(
        findings,
        results,
        around.environment,
        notes=(*complaints, *_list_left_out(cases, settings.max_time)),
        protections=around.protections,
        interrupted=runner.interrupted,
        seconds=_name_durations(cases, runner.seconds),
    )


def _list_left_out(cases: Sequence[TargetCase], seconds: float) -> list[Reason]:
    """What the time of the run was too short for, by name: targets, and those of which suspects stay undecided."""
    cut = [case for case in cases if any(map(_is_out_of_budget, case.outcomes.values()))]
    names = {case: f"{case.target.path}: {case.name}" for case in cut}
    unmeasured = [names[case] for case in cut if _is_out_of_budget(case.baseline)]
    undecided = [names[case] for case in cut if not _is_out_of_budget(case.baseline)]
    told = {"seconds": seconds, "unmeasured": unmeasured, "undecided": undecided}
    return [Reason(ReasonCode.LEFT_OUT, told)] if cut else []


def _is_out_of_budget(outcome: Outcome) -> bool:
    return outcome.reason is not None and outcome.reason.code == ReasonCode.OUT_OF_BUDGET


def _name_durations(
    cases: Sequence[TargetCase], seconds: Mapping[tuple[str, str], float]
) -> dict[tuple[str, str], float]:
    """How long each target ran, by its path as the report has it."""
    places = {(case.target.path, case.target.symbol) for case in cases}
    return {place: took for place in places if (took := seconds.get((os.path.abspath(place[0]), place[1])))}


def _collect_findings(
    files: Sequence[SourceFile], cases: Sequence[TargetCase], variants: VariantBatcher
) -> tuple[Finding, ...]:
    attributions = attribute_cases(cases, variants)
    rewrites = find_verified_fixes(attributions, variants)
    rulings: dict[Suspect, list[tuple[TargetCase, SuspectRuling]]] = {}
    for case, attribution in attributions.items():
        ruled = attribution.rulings
        cut = next((outcome.reason for outcome in case.outcomes.values() if _was_cut_short(outcome)), None)
        if cut is not None:
            ruled = dict.fromkeys(ruled, SuspectRuling(Disposition.UNCONFIRMED, cut))
        for suspect, ruling in ruled.items():
            rulings.setdefault(suspect, []).append((case, ruling))
    return tuple(
        _combine_rulings(suspect, rulings.get(suspect, []), cases, rewrites)
        for file in files
        for suspect in file.suspects
    )


def find_verified_fixes(
    attributions: Mapping[TargetCase, Attribution], variants: VariantBatcher
) -> dict[TargetCase, Rewrite]:
    """A rewrite for each case that is safe without its confirmed suspects.

    The tidy text is the program that has run, less empty lines. Where it is another one, it is run too.
    """
    mended = [Variant(case, found.mended, tidy=True) for case, found in attributions.items() if found.mended]
    others = [variant for variant in mended if variants.is_another_program(variant.ablation)]
    refuted = {
        variant
        for variant, outcome in zip(others, variants.run_variants(others), strict=True)
        if get_worst_verdict(outcome) is not Verdict.SAFE
    }
    return {v.case: _make_rewrite(v.case, v.ablation, variants) for v in mended if v not in refuted}


def _make_rewrite(case: TargetCase, ablation: Iterable[Suspect], variants: VariantBatcher) -> Rewrite:
    texts = variants.make_texts(ablation, tidy=True)
    paths = sorted({suspect.path for suspect in ablation})
    return Rewrite(case.name, tuple((path, texts[os.path.abspath(path)]) for path in paths))


def _combine_rulings(
    suspect: Suspect,
    rulings: Sequence[tuple[TargetCase, SuspectRuling]],
    cases: Sequence[TargetCase],
    rewrites: Mapping[TargetCase, Rewrite],
) -> Finding:
    """A suspect's disposition over all its targets: confirmed by one is confirmed.

    Where the run was cut short, a target that has not run might have confirmed what another clears.
    """
    unknown = any(_was_cut_short(case.baseline) for case in _list_nearby_cases(suspect, cases))
    for disposition in (Disposition.CONFIRMED, Disposition.CLEARED, Disposition.UNCONFIRMED):
        chosen = [(case, ruling) for case, ruling in rulings if ruling.disposition is disposition]
        if chosen and not (unknown and disposition is Disposition.CLEARED):
            verdict = worst(case.verdict for case, _ in rulings)
            mended = [rewrites[case] for case, _ in chosen if case in rewrites]
            rewrite = mended[0] if mended and disposition is Disposition.CONFIRMED else None
            return Finding(suspect, disposition, verdict, chosen[0][1].reason, rewrite)
    return _report_unreached(suspect, cases)


def _was_cut_short(outcome: Outcome) -> bool:
    """Whether the run ended before this was known."""
    return outcome.reason is not None and outcome.reason.code in (ReasonCode.INTERRUPTED, ReasonCode.OUT_OF_BUDGET)


def _report_unreached(suspect: Suspect, cases: Sequence[TargetCase]) -> Finding:
    """No target executed the suspect: says which ones could have."""
    near = _list_nearby_cases(suspect, cases)
    ran = [c for c in near if c.verdict is not Verdict.INCONCLUSIVE]
    if ran:
        code, names = _find_obstacle(ran), list(dict.fromkeys(case.target.symbol for case in ran))[:3]
        told: dict[str, Any] = {"targets": names}
        if code is ReasonCode.NOT_REACHED:
            told["gpu"] = _is_for_gpu(suspect, near)
        reason = Reason(code, told)
        return Finding(suspect, Disposition.UNCONFIRMED, worst(c.verdict for c in near), reason)
    if near:
        reason = Reason(ReasonCode.TARGET_NOT_RUN, {"target": near[0].name, "reason": get_reason(near[0].baseline)})
        return Finding(suspect, Disposition.UNCONFIRMED, Verdict.INCONCLUSIVE, reason)
    return _report_without_target(suspect)


def _is_for_gpu(suspect: Suspect, cases: Sequence[TargetCase]) -> bool:
    """Whether the branch that a suspect stands in asks for a GPU."""
    source = next((case.file.source for case in cases if case.file.path == suspect.path), "")
    return bool(source) and asks_for_gpu(source, suspect.span.line)


def _find_obstacle(ran: Sequence[TargetCase]) -> ReasonCode:
    """Why targets did not reach a suspect."""
    notes = (note for case in ran for run in case.baseline.runs for note in run.notes)
    if any(holds_code(note, ReasonCode.OUT_OF_TIME) for note in notes):
        return ReasonCode.NOT_REACHED_IN_TIME
    unsafe = all(case.verdict.unsafe for case in ran)
    return ReasonCode.NOT_REACHED_BEFORE_FAILURE if unsafe else ReasonCode.NOT_REACHED


def _list_nearby_cases(suspect: Suspect, cases: Sequence[TargetCase]) -> list[TargetCase]:
    """The targets that may execute a suspect, by the text of its file."""
    return [case for case in cases if case.target.may_execute(suspect)]


def _report_without_target(suspect: Suspect) -> Finding:
    return Finding(suspect, Disposition.UNCONFIRMED, None, Reason(ReasonCode.NO_TARGET))
