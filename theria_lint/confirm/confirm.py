"""The entry point of the dynamic stage: run the targets, rule on every suspect, collect the findings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from theria.verdicts import Verdict, worst
from theria_lint.cache import Place
from theria_lint.confirm.attribution import add_advice
from theria_lint.confirm.evidence import SuspectRuling
from theria_lint.confirm.outcome_cache import OutcomeCache
from theria_lint.confirm.protocol import OUT_OF_TIME, WorkerError
from theria_lint.confirm.runner import RUN_INTERRUPTED, RunLimits, VariantRunner
from theria_lint.confirm.schedule import VariantExecutor, attribute_cases
from theria_lint.confirm.target_case import TargetCase, make_cases
from theria_lint.confirm.verified_fix import find_verified_fixes
from theria_lint.model import Disposition, Finding, Rewrite, SourceFile, Suspect, TargetResult
from theria_lint.result import Environment, LintError, Progress


@dataclass(frozen=True)
class ConfirmSettings:
    """How the dynamic stage runs: whose Python, where, for how long (seconds a target), with how much memory (bytes).

    ``targets`` holds the tables ``[[tool.theria-lint.targets]]`` of the configuration, ``adapters`` the files of
    functions that call targets; results are kept in
    ``cache``, unless it is None.
    """

    python: str = sys.executable
    device: str = "auto"
    timeout: float = 30.0
    jobs: int = os.cpu_count() or 1
    memory: int = 4 << 30
    targets: tuple[Mapping[str, Any], ...] = ()
    adapters: tuple[str, ...] = ()
    cache: Place | None = None


@dataclass(frozen=True)
class Confirmation:
    """What the dynamic stage found out."""

    findings: tuple[Finding, ...]
    targets: tuple[TargetResult, ...]
    environment: Environment
    errors: tuple[LintError, ...] = ()
    notes: tuple[str, ...] = ()
    protections: Mapping[str, str | None] = field(default_factory=dict)
    interrupted: bool = False


def confirm_suspects(
    files: Sequence[SourceFile], settings: ConfirmSettings, progress: Progress | None = None
) -> Confirmation:
    """Runs every target of the files and rules on every suspect.

    Where nothing can be run at all, every suspect is unconfirmed and a note says why, in one sentence.
    """
    if not any(file.targets for file in files):
        findings = [_report_without_target(suspect) for file in files for suspect in file.suspects]
        return Confirmation(tuple(findings), (), Environment())
    limits = RunLimits(settings.python, settings.device, settings.jobs, settings.timeout, settings.memory)
    cache = OutcomeCache(settings.cache, settings.python, settings.device) if settings.cache else None
    try:
        with VariantRunner(limits, cache, progress) as runner:
            return _run_confirmation(files, settings, runner)
    except WorkerError as error:
        findings = [Finding(s, Disposition.UNCONFIRMED, None, str(error)) for file in files for s in file.suspects]
        return Confirmation(tuple(findings), (), Environment(), notes=(str(error),))


def _run_confirmation(files: Sequence[SourceFile], settings: ConfirmSettings, runner: VariantRunner) -> Confirmation:
    cases = make_cases(files, settings.targets, settings.adapters)
    findings = _collect_findings(files, cases, VariantExecutor(files, runner))
    results = tuple(case.build_result() for case in cases)
    around = runner.worker_info
    return Confirmation(
        findings, results, around.environment, protections=around.protections, interrupted=runner.interrupted
    )


def _collect_findings(
    files: Sequence[SourceFile], cases: Sequence[TargetCase], variants: VariantExecutor
) -> tuple[Finding, ...]:
    attributions = attribute_cases(cases, variants)
    rewrites = find_verified_fixes(attributions, variants)
    rulings: dict[Suspect, list[tuple[TargetCase, SuspectRuling]]] = {}
    for case, attribution in attributions.items():
        ruled = attribution.rulings
        if any(outcome.reason == RUN_INTERRUPTED for outcome in case.outcomes.values()):
            ruled = dict.fromkeys(ruled, SuspectRuling(Disposition.UNCONFIRMED, RUN_INTERRUPTED))
        for suspect, ruling in ruled.items():
            rulings.setdefault(suspect, []).append((case, ruling))
    return tuple(
        _combine_rulings(suspect, rulings.get(suspect, []), cases, rewrites)
        for file in files
        for suspect in file.suspects
    )


def _combine_rulings(
    suspect: Suspect,
    rulings: Sequence[tuple[TargetCase, SuspectRuling]],
    cases: Sequence[TargetCase],
    rewrites: Mapping[TargetCase, Rewrite],
) -> Finding:
    """A suspect's disposition over all its targets: confirmed by one is confirmed.

    Where the run was interrupted, a target that has not run might have confirmed what another clears.
    """
    unknown = any(case.baseline.reason == RUN_INTERRUPTED for case in _list_nearby_cases(suspect, cases))
    for disposition in (Disposition.CONFIRMED, Disposition.CLEARED, Disposition.UNCONFIRMED):
        chosen = [(case, ruling) for case, ruling in rulings if ruling.disposition is disposition]
        if chosen and not (unknown and disposition is Disposition.CLEARED):
            verdict = worst(case.verdict for case, _ in rulings)
            mended = [rewrites[case] for case, _ in chosen if case in rewrites]
            rewrite = mended[0] if mended and disposition is Disposition.CONFIRMED else None
            return Finding(suspect, disposition, verdict, chosen[0][1].reason, rewrite)
    return _report_unreached(suspect, cases)


def _report_unreached(suspect: Suspect, cases: Sequence[TargetCase]) -> Finding:
    """No target executed the suspect: says which ones could have."""
    near = _list_nearby_cases(suspect, cases)
    ran = [c for c in near if c.verdict is not Verdict.INCONCLUSIVE]
    if ran:
        names = ", ".join(c.target.symbol for c in ran[:3])
        reason = f"not reached by {names} {_advise_on_unreached(ran)}"
        return Finding(suspect, Disposition.UNCONFIRMED, worst(c.verdict for c in near), reason)
    if near:
        return Finding(
            suspect,
            Disposition.UNCONFIRMED,
            Verdict.INCONCLUSIVE,
            add_advice(f"{near[0].target.symbol}: {near[0].baseline.reason or near[0].build_result().reason}"),
        )
    return _report_without_target(suspect)


def _advise_on_unreached(ran: Sequence[TargetCase]) -> str:
    """What to do about a suspect that targets did not reach."""
    notes = (note for case in ran for run in case.baseline.runs for note in run.notes)
    if any(note.endswith(OUT_OF_TIME) for note in notes):
        return "in the time that it had: give it more with --timeout"
    if all(case.verdict.unsafe for case in ran):
        return (
            "as the probe calls it, which is unsafe before: mend that and lint again, "
            "or name arguments that take this branch in the configuration"
        )
    return "as the probe calls it: name arguments that take this branch in the configuration"


def _list_nearby_cases(suspect: Suspect, cases: Sequence[TargetCase]) -> list[TargetCase]:
    """The targets that may execute a suspect, by the text of its file."""
    return [case for case in cases if case.target.may_execute(suspect)]


def _report_without_target(suspect: Suspect) -> Finding:
    reason = "no attention callable that can be run was found to execute it: name one in the configuration"
    return Finding(suspect, Disposition.UNCONFIRMED, None, reason)
