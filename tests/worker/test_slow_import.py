"""What takes long to import is imported once by the worker, as soon as a job has wanted it."""

from __future__ import annotations

import sys
from pathlib import Path

from theria_lint.confirm.protocol import Job, Outcome, TargetRequest
from theria_lint.confirm.worker_client import WorkerClient

PLAIN = """import sys

import torch


def attention(q, k, v):
    if {raises_if}:
        raise ValueError(str("torch._dynamo" in sys.modules))
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v
"""
MARK = "torch/_dynamo/__init__.py"


def reads_compiler(outcome: Outcome) -> bool:
    return outcome.reads is not None and any(path.endswith(MARK) for path in outcome.reads.files)


def run_in_turn(folder: Path, *sources: str) -> list[Outcome]:
    """The outcome of each file, in one worker, one after another."""
    jobs = []
    for number, source in enumerate(sources):
        path = folder / f"kernel_{number}.py"
        path.write_text(source)
        target = TargetRequest("attention", "function")
        jobs.append(Job(number, str(path), (target,), {}, (), "cpu", 60.0, 4 << 30))
    with WorkerClient(sys.executable, "cpu", 1) as worker:
        worker.wait_for_greeting()
        outcomes = worker.run_jobs(jobs, lambda *_: None)
    return [outcomes[job.id]["attention"] for job in jobs]


def test_a_job_that_imports_the_compiler_imports_it_for_those_behind_it(tmp_path: Path) -> None:
    raises = PLAIN.format(raises_if="True")
    before, wants, after = run_in_turn(tmp_path, raises, "import torch._dynamo\n" + raises, raises)
    told = [str(outcome.reason.to_json() if outcome.reason else None) for outcome in (before, wants, after)]
    assert ["'message': 'True'" in each for each in told] == [False, True, True], told
    assert [reads_compiler(outcome) for outcome in (before, wants, after)] == [False, True, True]


def test_what_is_imported_already_changes_no_measurement(tmp_path: Path) -> None:
    safe = PLAIN.format(raises_if="False")
    before, _, after = run_in_turn(tmp_path, safe, "import torch._dynamo\n" + safe, safe)
    assert [run.verdict for run in before.runs] == ["safe"]
    assert after.runs == before.runs
