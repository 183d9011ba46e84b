"""From suspects to findings: the dynamic stage's dispositions, or the reason why it did not run."""

from __future__ import annotations

import glob
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from theria_lint.errors import UserError
from theria_lint.model import Disposition, Finding, Report, SourceFile, Suspect
from theria_lint.scanning import Scanned
from theria_lint.settings import Settings

if TYPE_CHECKING:
    from theria_lint.dynamic import Confirmation, ConfirmSettings
    from theria_lint.pipeline import Progress

NOT_RUN = "not run (--no-confirm)"
NOTEBOOK = "not run: notebooks are checked statically only"


def with_dispositions(
    report: Report, scanned: Sequence[Scanned], settings: Settings, progress: Progress | None
) -> Report:
    """``report`` with a finding for every suspect and, unless settings say no, a result for every target."""
    sources = {(item.path, cell): text for item in scanned for cell, text in item.texts.items() if item.suspects}
    report = replace(report, sources=sources)
    if not settings.confirm:
        return replace(report, findings=_unconfirmed((item.suspects for item in scanned), NOT_RUN))
    files = [_source_file(item) for item in scanned if None in item.texts and (item.suspects or item.targets)]
    notebooks = _unconfirmed((item.suspects for item in scanned if None not in item.texts), NOTEBOOK)
    if not files:
        return replace(report, findings=notebooks)
    outcome = _confirm(files, settings, progress)
    return replace(
        report,
        environment=outcome.environment,
        findings=tuple(sorted((*outcome.findings, *notebooks), key=_place)),
        targets=tuple(sorted(outcome.targets, key=lambda item: (item.target.path, item.target.line))),
        errors=tuple(sorted((*report.errors, *outcome.errors), key=lambda error: (error.path, error.line or 0))),
        notes=(*report.notes, *outcome.notes),
    )


def _unconfirmed(groups: Iterable[tuple[Suspect, ...]], reason: str) -> tuple[Finding, ...]:
    found = (Finding(suspect, Disposition.UNCONFIRMED, None, reason) for group in groups for suspect in group)
    return tuple(sorted(found, key=_place))


def _place(finding: Finding) -> tuple[object, ...]:
    suspect = finding.suspect
    return suspect.path, suspect.cell or 0, suspect.span, suspect.rule


def _source_file(item: Scanned) -> SourceFile:
    return SourceFile(item.path, item.texts[None], item.suspects, item.targets)


def _confirm(files: Sequence[SourceFile], settings: Settings, progress: Progress | None) -> Confirmation:
    from theria_lint import dynamic

    return dynamic.confirm(files, confirm_settings(settings), progress)


def confirm_settings(settings: Settings) -> ConfirmSettings:
    """What the dynamic stage needs to know of the settings. Raises UserError for an interpreter that is not there."""
    from theria_lint import dynamic

    return dynamic.ConfirmSettings(
        python=_program(settings.python) if settings.python else find_python(settings.root),
        device=settings.device,
        timeout=settings.timeout,
        jobs=settings.jobs or os.cpu_count() or 1,
        targets=settings.targets,
    )


def _program(python: str) -> str:
    found = shutil.which(python)
    if found is None:
        raise UserError(f"{python}: no such interpreter; --python takes the path of one that has torch.")
    return found


def find_python(root: str) -> str:
    """An interpreter that has torch: this one, the active environment's, the project's; this one if none has."""
    from importlib.util import find_spec

    if find_spec("torch") is not None:
        return sys.executable
    places = [os.environ.get("VIRTUAL_ENV", ""), os.environ.get("CONDA_PREFIX", "")]
    places += [os.path.join(root, name) for name in (".venv", "venv")]
    for place in filter(None, places):
        program = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
        python = os.path.join(place, *program)
        if os.path.isfile(python) and _holds_torch(place):
            return python
    return sys.executable


def _holds_torch(environment: str) -> bool:
    patterns = (("lib", "python*", "site-packages", "torch"), ("Lib", "site-packages", "torch"))
    return any(glob.glob(os.path.join(glob.escape(environment), *pattern)) for pattern in patterns)
