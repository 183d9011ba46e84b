"""The benchmark of attention, tried out on the CPU: what its rows hold, and how it stops and goes on."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from benchmarks import second_order_attention

SMALL = ["--device", "cpu", "--batch", "1", "--heads", "1", "--lengths", "4", "--widths", "4", "--dtypes", "float32"]


def _run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["second_order_attention", *SMALL, *arguments])
    monkeypatch.setattr(second_order_attention, "BUDGET", 0.0)
    second_order_attention.main()
    return capsys.readouterr().out.splitlines()


def test_a_row_has_times_memory_rate_and_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _run(monkeypatch, capsys, "--parts", "attention", "--runs", "sdpa,eager,MATH", "--causal", "yes")
    assert lines[1].split() == ["dtype", "D", "T", "causal", "run", "1st", "ms", "ms", "MiB", "TFLOP/s", "error"]
    sdpa, eager, math = (line.split() for line in lines[2:])
    assert (len(sdpa), len(eager), len(math)) == (6, 10, 10)
    assert float(eager[-1]) < 1e-5


def test_steps_of_models_have_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="needs the extra transformers")
    monkeypatch.setattr(second_order_attention, "MODELS", ("ViT",))
    lines = _run(monkeypatch, capsys, "--parts", "steps", "--runs", "eager")
    assert [line.split()[:4] for line in lines[2:]] == [
        ["ViT", "float32", kind, "eager"] for kind in ("hvp", "penalty", "maml")
    ]
    assert all(re.search(r"\d+\.\d +0$", line) for line in lines[2:])


def test_what_a_time_limit_leaves_out_is_said_and_begun_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--parts", "attention", "--runs", "sdpa,eager")
    stopped = _run(monkeypatch, capsys, *arguments, "--start", "1", "--max-time", "-1")
    assert stopped[-1] == "the time is up: go on with --start 1"
    assert [line.split()[3:5] for line in _run(monkeypatch, capsys, *arguments, "--start", "1")[2:]] == [
        ["False", "eager"], ["True", "sdpa"], ["True", "eager"],
    ]  # fmt: skip


def test_a_row_that_would_take_longer_than_is_left_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    key = ("eager", torch.float32, 4, False)
    monkeypatch.setitem(second_order_attention._last, key, (4, 1000.0))
    found = second_order_attention.measure_attention("eager", (1, 1, 8, 4), torch.float32, False, "cpu", 11.0)
    assert found == "would take about 12 s"
