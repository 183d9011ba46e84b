"""Confirm the suspects of scanned files, or say why a file is not run; find the interpreter to run with."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from theria_lint.config import CALLS_DIR, Settings
from theria_lint.errors import UserError
from theria_lint.model import Disposition, Finding, SourceFile
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.result import Environment, LintReport, ScannedFile

if TYPE_CHECKING:
    from theria_lint.confirm.call_hints import CallSource
    from theria_lint.confirm.confirm import Confirmation, ConfirmSettings
    from theria_lint.result import Progress


def confirm_scanned_files(
    report: LintReport,
    scanned: Sequence[ScannedFile],
    settings: Settings,
    *,
    given: Collection[str] = (),
    linted: Sequence[str] = (),
    progress: Progress | None = None,
    until: float | None = None,
) -> LintReport:
    """``report`` with a finding for every suspect and, unless settings say no, a result for every target.

    Files in ``given`` are not on the disk as they were scanned: they cannot be imported. ``linted`` are all the files
    that the user named, some of which may show how targets are called. The run ends at ``until``, by the monotonic
    clock.
    """
    sources = {(item.path, cell): text for item in scanned for cell, text in item.texts.items() if item.suspects}
    report = report._replace(sources=sources)
    reasons = {item.path: _find_reason_not_to_run(item, settings, given) for item in scanned}
    if report.unmeasured is not None:
        report = report._replace(unmeasured=sum(len(item.targets) for item in scanned if reasons[item.path]))
    still = [
        Finding(suspect, Disposition.UNCONFIRMED, None, reason)
        for item in scanned
        if (reason := reasons[item.path])
        for suspect in item.suspects
    ]
    files = [
        SourceFile(item.path, item.texts[None], item.suspects, item.targets)
        for item in scanned
        if not reasons[item.path] and (item.suspects or item.targets)
    ]
    if not files:
        return report._replace(findings=tuple(sorted(still, key=_sort_key_of_finding)))
    outcome = _confirm_files(files, settings, linted, progress, until)
    return report._replace(
        environment=outcome.environment,
        findings=tuple(sorted((*outcome.findings, *still), key=_sort_key_of_finding)),
        targets=tuple(sorted(outcome.targets, key=lambda item: (item.target.path, item.target.line))),
        errors=tuple(sorted((*report.errors, *outcome.errors), key=lambda error: (error.path, error.line or 0))),
        notes=(*report.notes, *outcome.notes),
        protections=outcome.protections,
        interrupted=outcome.interrupted,
        seconds=outcome.seconds,
        failure=outcome.failure,
    )


def _find_reason_not_to_run(item: ScannedFile, settings: Settings, given: Collection[str]) -> Reason | None:
    if not settings.confirm:
        return Reason(ReasonCode.NOT_CONFIRMED)
    if None not in item.texts:
        return Reason(ReasonCode.NOTEBOOK)
    return Reason(ReasonCode.STANDARD_INPUT) if item.path in given else None


def _sort_key_of_finding(finding: Finding) -> tuple[object, ...]:
    suspect = finding.suspect
    return suspect.path, suspect.cell or 0, suspect.span, suspect.rule


def _confirm_files(
    files: Sequence[SourceFile],
    settings: Settings,
    linted: Sequence[str],
    progress: Progress | None,
    until: float | None,
) -> Confirmation:
    from theria_lint.confirm.confirm import Confirmation, confirm_suspects
    from theria_lint.confirm.python_interpreter import choose_interpreter

    choice = choose_interpreter(settings)
    if choice.refusal and any(file.targets for file in files):
        reason = Reason(ReasonCode.NO_WORKER, {"reason": choice.refusal, "looked_at": list(choice.looked_at)})
        findings = [Finding(s, Disposition.UNCONFIRMED, None, reason) for file in files for s in file.suspects]
        return Confirmation(tuple(findings), (), Environment(), notes=(reason,))
    wanted = replace(make_confirm_settings(settings, choice.python), until=until)
    if wanted.calls is not None:
        wanted = replace(wanted, calls=wanted.calls._replace(pages=_list_pages(settings, linted)))
    outcome = confirm_suspects(files, wanted, progress)
    return replace(outcome, notes=(choice.note, *outcome.notes)) if choice.note else outcome


def _list_pages(settings: Settings, linted: Sequence[str]) -> tuple[str, ...]:
    from theria_lint.confirm.call_hints import list_example_files

    return tuple(list_example_files(settings.linted[1:], linted))


def make_confirm_settings(settings: Settings, python: str) -> ConfirmSettings:
    """What the dynamic stage needs to know of the settings, to run the code with an interpreter. Raises UserError."""
    from theria_lint.cache import place_of
    from theria_lint.confirm.confirm import ConfirmSettings

    return ConfirmSettings(
        python=python,
        device=settings.device,
        timeout=settings.timeout,
        max_time=settings.max_time,
        jobs=settings.jobs or os.cpu_count() or 1,
        targets=settings.targets,
        adapters=tuple(_adapter(path, settings.root) for path in settings.adapters),
        cache=place_of(settings.cache_dir, settings.linted) if settings.cache else None,
        calls=_find_call_source(settings),
        executor=settings.executor,
    )


def _find_call_source(settings: Settings) -> CallSource:
    from theria_lint.confirm.call_hints import CallSource

    root = os.path.abspath(settings.root)
    folder = settings.calls_dir or os.path.join(root, CALLS_DIR)
    return CallSource(folder, root, settings.calls, within=settings.calls_dir or root)


def _adapter(path: str, root: str) -> str:
    """Where an adapter really lies. Raises UserError for a place that a project has no business to open."""
    real, inside = os.path.realpath(path), os.path.join(os.path.realpath(root), "")
    shown = os.path.relpath(path).replace(os.sep, "/")
    if not real.startswith(inside) or any(part.startswith(".") for part in real[len(inside) :].split(os.sep)):
        raise UserError(f"{shown}: an adapter is a file of the project, and not a hidden one; copy it there.")
    return real
