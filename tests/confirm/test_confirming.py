"""How the command line uses the dynamic stage, which is a stand-in here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.lint_case import CLEAN, UNSAFE, Lint
from tests.support.sample_report import told
from theria_lint.confirm import confirm as stage_module
from theria_lint.confirm.confirm import Confirmation, ConfirmSettings
from theria_lint.model import Disposition, Finding, SourceFile, TargetResult, Verdict
from theria_lint.reasons import Ground, Reason
from theria_lint.result import Environment

Stage = Callable[..., dict[str, Any]]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Plants a dynamic stage that gives all suspects one disposition and all targets one verdict."""

    def plant(disposition: str, verdict: str, notes: tuple[Reason, ...] = ()) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def confirm(files: Sequence[SourceFile], settings: ConfirmSettings, progress: object = None) -> Confirmation:
            seen.update(files=files, settings=settings)
            chosen = Verdict(verdict)
            suspects = [suspect for file in files for suspect in file.suspects]
            findings = tuple(
                Finding(suspect, Disposition(disposition), chosen, told("because")) for suspect in suspects
            )
            targets = tuple(TargetResult(target, chosen, told("measured")) for file in files for target in file.targets)
            return Confirmation(findings, targets, Environment("3.11"), (), notes)

        monkeypatch.setattr(stage_module, "confirm_suspects", confirm)
        return seen

    return plant


@pytest.mark.parametrize(
    ("disposition", "verdict", "code"),
    [
        ("confirmed", "silent_collapse", 1),
        ("unconfirmed", "inconclusive", 1),
        ("cleared", "safe", 0),
        ("cleared", "first_order_only", 1),
    ],
)
def test_the_exit_code_follows_dispositions_and_verdicts(
    lint: Lint, folder: Path, stage: Stage, disposition: str, verdict: str, code: int
) -> None:
    stage(disposition, verdict)
    (folder / "kernel.py").write_text(UNSAFE)
    assert lint(confirm=True).exit_code == code


def test_cleared_suspects_are_shown_on_demand(lint: Lint, folder: Path, stage: Stage) -> None:
    stage("cleared", "safe")
    (folder / "kernel.py").write_text(UNSAFE)
    assert lint(confirm=True).stdout == "1 file, 1 suspect: 1 cleared; 1 target: 1 safe.\n"
    shown = lint("--show-cleared", confirm=True).stdout
    assert shown.startswith("kernel.py:6:20: THL002 detach: cleared, safe (error)\n")
    assert "  evidence: because\n" in shown


def test_an_unsafe_target_without_a_suspect_is_reported(lint: Lint, folder: Path, stage: Stage) -> None:
    stage("confirmed", "silent_collapse")
    (folder / "kernel.py").write_text(CLEAN)
    result = lint(confirm=True)
    assert result.stdout == (
        "kernel.py:4:1: target attention: silent_collapse\n"
        "  reason: measured\n"
        "  note: no suspect explains it\n"
        "\n"
        "1 file, 0 suspects; 1 target: 1 silent_collapse.\n"
    )
    assert result.exit_code == 1
    assert lint("--fail-on", "confirmed", confirm=True).exit_code == 0


def test_an_inconclusive_target_says_why_and_does_not_fail_alone(lint: Lint, folder: Path, stage: Stage) -> None:
    stage("confirmed", "inconclusive")
    (folder / "kernel.py").write_text(CLEAN)
    result = lint(confirm=True)
    assert result.stdout.startswith("kernel.py:4:1: target attention: inconclusive\n  reason: measured\n\n")
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("silencer", "code"),
    [(["--ignore", "THL002"], 0), (["--ignore", "THL001"], 1), (["--select", "THL001"], 0), ([], 1)],
)
def test_a_target_whose_suspects_are_silenced_is_accepted(
    lint: Lint, folder: Path, stage: Stage, silencer: list[str], code: int
) -> None:
    stage("confirmed", "silent_collapse")
    (folder / "kernel.py").write_text(UNSAFE)
    assert lint(*silencer, confirm=True).exit_code == code
    assert lint(*silencer, "--fail-on", "unsafe", confirm=True).exit_code == code


def test_rules_that_are_not_selected_hide_no_unsafe_target_without_a_word(
    lint: Lint, folder: Path, stage: Stage
) -> None:
    stage("confirmed", "silent_collapse")
    (folder / "kernel.py").write_text(UNSAFE)
    said = lint("--select", "THL001", confirm=True).stderr
    assert said.startswith("Note: 1 unsafe target not shown, by rules that were not asked for\n  note: attention\n")
    assert lint("--select", "THL002", confirm=True).stderr == ""


def test_silenced_suspects_still_take_part(lint: Lint, folder: Path, stage: Stage) -> None:
    seen = stage("confirmed", "silent_collapse")
    (folder / "kernel.py").write_text(UNSAFE.rstrip() + "  # theria: ignore[THL002]\n")
    assert lint(confirm=True).exit_code == 0
    assert [suspect.rule for suspect in seen["files"][0].suspects] == ["THL002"]


def test_the_baseline_accepts_targets_without_a_suspect(lint: Lint, folder: Path, stage: Stage) -> None:
    stage("confirmed", "silent_collapse")
    (folder / "kernel.py").write_text(CLEAN)
    lint("--write-baseline", "base.json", confirm=True)
    assert lint("--baseline", "base.json", confirm=True).exit_code == 0
    (folder / "kernel.py").write_text(CLEAN.replace("attention", "attention2"))
    assert lint("--baseline", "base.json", confirm=True).exit_code == 1


def test_notes_are_on_standard_error(lint: Lint, folder: Path, stage: Stage) -> None:
    stage("unconfirmed", "inconclusive", (Reason(Ground.RAISED, {"kind": "there is no torch", "message": ""}),))
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint(confirm=True)
    assert result.stderr == "Note: there is no torch\n"
    assert lint("--quiet", confirm=True).stderr == ""


def test_notebooks_are_not_run(lint: Lint, folder: Path, stage: Stage) -> None:
    import json

    seen = stage("confirmed", "silent_collapse")
    (folder / "n.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": UNSAFE}]}))
    result = lint(confirm=True)
    assert "  evidence: not run: notebooks are checked statically only\n" in result.stdout
    assert not seen


def test_standard_input_is_not_run(lint: Lint, folder: Path, stage: Stage) -> None:
    seen = stage("confirmed", "silent_collapse")
    (folder / "kernel.py").write_text(CLEAN)
    result = lint("-", "--stdin-filename", "kernel.py", stdin=UNSAFE, confirm=True)
    assert "  evidence: not run: standard input is checked statically only\n" in result.stdout
    assert "  help: Save the file to have it run\n" in result.stdout
    assert (result.exit_code, seen) == (1, {})


def test_settings_are_handed_over(lint: Lint, folder: Path, stage: Stage) -> None:
    seen = stage("cleared", "safe")
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "theria-lint.toml").write_text('timeout = 7\ntargets = [{target = "kernel.py:attention"}]\n')
    lint("--device", "cpu", "--jobs", "3", "--python", sys.executable, confirm=True)
    settings = seen["settings"]
    assert (settings.device, settings.jobs, settings.timeout, settings.python) == ("cpu", 3, 7.0, sys.executable)
    assert settings.targets == ({"target": "kernel:attention"},)


def test_an_interpreter_that_is_not_there_exits_with_2(lint: Lint, folder: Path, stage: Stage) -> None:
    stage("cleared", "safe")
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint("--python", "env/bin/python", confirm=True)
    expected = f"Error: {folder}/env/bin/python: no such interpreter; --python takes the path of one that has torch.\n"
    assert (result.stdout, result.stderr, result.exit_code) == ("", expected, 2)
