"""The time of a whole run: verdicts come first, and what it was too short for is said by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.confirming import confirm_files
from tests.support.lint_case import CLEAN, UNSAFE, Lint
from theria_lint.reasons import ReasonCode

MUCH = 3600.0


class Alarm:
    """A timer that rings when it is told to."""

    rung: Callable[[], None]
    daemon = False

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        assert seconds > 0
        Alarm.rung = ring

    def start(self) -> None:
        """Wait to be told."""

    def cancel(self) -> None:
        """There is nothing to cancel."""


def test_verdicts_come_before_what_tells_who_is_to_blame(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is over as soon as anything but a verdict is asked for."""
    monkeypatch.setattr("theria_lint.confirm.runner.Timer", Alarm)
    files = [folder / f"kernel{number}.py" for number in range(3)]
    for file, source in zip(files, (UNSAFE, CLEAN, UNSAFE), strict=True):
        file.write_text(source)
    asked: list[int] = []

    def watch(what: str, done: int, known: int) -> None:
        asked.append(known)
        if known > len(files):
            Alarm.rung()

    found = confirm_files(files, watch, device="cpu", max_time=MUCH, until=float("inf"))
    assert len(files) in asked
    assert [str(target.verdict) for target in found.targets] == ["hard_structural", "safe", "hard_structural"]
    assert [finding.disposition for finding in found.findings] == ["unconfirmed", "unconfirmed"]
    assert {finding.reason.code for finding in found.findings} == {ReasonCode.OUT_OF_BUDGET}
    (note,) = found.notes
    assert note.code == ReasonCode.LEFT_OUT
    assert note.data == {
        "seconds": MUCH,
        "unmeasured": [],
        "undecided": [f"{files[0]}: attention", f"{files[2]}: attention"],
    }
    assert not found.interrupted


def test_what_has_no_verdict_is_named_in_every_format(lint: Lint) -> None:
    Path("unsafe.py").write_text(UNSAFE)
    Path("clean.py").write_text(CLEAN)
    told: dict[str, Any] = {}
    for form in ("text", "json", "sarif"):
        found = lint(
            "--no-cache", "--device", "cpu", "--max-time", "0.000001", "--output-format", form, ".", confirm=True
        )
        assert found.exit_code == 1, "as for every suspect that is not decided"
        assert found.stderr.startswith("Note: the 1e-06 s of --max-time were spent before all had run\n")
        assert "not measured: clean.py: attention; unsafe.py: attention" in found.stderr
        told[form] = found.stdout
    assert "not known after the 1e-06 s that the run was given" in told["text"]
    assert "out of time before all had run" in told["text"]
    data = json.loads(told["json"])
    assert [finding["reason_code"] for finding in data["findings"]] == ["target_not_run"]
    assert [(target["verdict"], target["reason_code"]) for target in data["targets"]] == [
        ("inconclusive", "out_of_budget")
    ] * 2
    assert "not known after the 1e-06 s" in told["sarif"]
    assert lint("--no-cache", "--device", "cpu", "--max-time", "0.000001", "clean.py", confirm=True).exit_code == 0


def test_what_is_kept_costs_no_time(lint: Lint) -> None:
    """The next run goes on from there, however little time it has."""
    Path("unsafe.py").write_text(UNSAFE)
    full = lint("--device", "cpu", ".", confirm=True)
    assert lint("--device", "cpu", "--max-time", "0.000001", ".", confirm=True).stdout == full.stdout
    assert "confirmed" in full.stdout


@pytest.mark.parametrize("value", ["-1", "604801", "nan"])
def test_what_is_no_time_is_one_sentence(lint: Lint, value: str) -> None:
    found = lint("--max-time", value)
    assert found.exit_code == 2
    assert found.stderr.endswith(": expected a number of seconds, 604800 at most, or 0 for no limit.\n")


def test_without_a_limit_nothing_waits(lint: Lint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theria_lint.confirm.runner.Timer", None)
    Path("clean.py").write_text(CLEAN)
    assert lint("--device", "cpu", "--max-time", "0", ".", confirm=True).exit_code == 0
