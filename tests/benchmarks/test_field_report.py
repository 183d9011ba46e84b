"""What the field report counts: only what a CPU cannot run is counted out."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "field_report.py"


@pytest.fixture(scope="module")
def field_report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("field_report", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def target(verdict: str, reason: str = "") -> dict[str, str]:
    return {"verdict": verdict, "reason": reason, "symbol": "attend"}


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("could not be imported: ImportError: cannot import name 'tanh'", "it cannot be imported as published"),
        ("no way to call it worked: ModuleNotFoundError: No module named 'apex'", "another package is missing"),
        ("no way to call it worked: NameError: name 'mask' is not defined", "a name that its own code does not define"),
        ("no way to call it worked: RuntimeError: Found no NVIDIA driver", "a compiled extension, or a GPU"),
    ],
)
def test_obstacle_is_named(field_report: ModuleType, reason: str, kind: str) -> None:
    assert field_report.obstacle(target("inconclusive", reason)).startswith(kind)


@pytest.mark.parametrize(
    "reason",
    ["it did not end within 60 s", "no way to call it worked: TypeError: missing 1 required argument: 'depth'"],
)
def test_what_could_run_is_counted(field_report: ModuleType, reason: str) -> None:
    assert field_report.obstacle(target("inconclusive", reason)) is None


def test_a_verdict_has_no_obstacle(field_report: ModuleType) -> None:
    assert field_report.obstacle(target("silent_collapse", "no NVIDIA driver")) is None


def test_share_leaves_out_what_cannot_run(field_report: ModuleType) -> None:
    targets = [target("safe"), target("inconclusive", "NameError: name 'x'"), target("inconclusive", "too slow")]
    assert field_report.share(targets) == "1 of 2 (50 %)"


def test_tally_counts_what_keeps_callables_from_a_verdict(field_report: ModuleType) -> None:
    slow, lost = "it did not end within 60 s", "no way to call it worked: ModuleNotFoundError: No module named 'apex'"
    reports = {
        "a==1": {"targets": [target("safe"), target("inconclusive", slow), target("inconclusive", lost)]},
        "b==2": {"targets": [target("inconclusive", slow), target("inconclusive", slow)]},
    }
    assert list(field_report.tally(reports)) == [
        "| slower than the time limit | 3 | a, b 2 |",
        "| counted out: another package is missing, or it exits for want of one | 1 | a |",
    ]


def test_guesses_are_listed_by_what_they_are_needed_for(field_report: ModuleType) -> None:
    counted = [
        {"guesses": ["idle", "a|b", "needed"]},
        {"call": "f(x)", "used": ["a|b", "needed"], "without": {"a|b": "other", "needed": "none"}},
        {"call": "g(x)", "used": ["needed"], "without": {"needed": "same"}},
        {"call": None, "without": {}},
        {"error": "ImportError"},
    ]
    called, _, *rows = field_report.guess_rows(counted)
    assert called.strip() == "2 of 3 callables have a call."
    assert rows[:2] == ["| `needed` | 2 | 2 | 1 | 0 |", "| `a\\|b` | 1 | 1 | 0 | 1 |"]
    assert rows[2].strip() == "1 took part in no call: `idle`"
