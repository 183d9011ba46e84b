"""How long things took: ``--durations``, ``-v`` and JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.support.lint_case import CLEAN, Lint

ROOT = Path(__file__).parents[2]


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "theria_lint", *words, "kernel.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_slowest_targets_are_told_and_those_that_were_kept_took_nothing(tmp_path: Path) -> None:
    slow = CLEAN.replace("def attention(q, k, v):", "def attention(q, k, v):\n    sum(range(300_000))")
    (tmp_path / "kernel.py").write_text(CLEAN.replace("attention", "quick_attention") + slow)
    document = json.loads(run(tmp_path, "--output-format", "json", "--durations", "0"))
    jsonschema.validate(document, json.loads((ROOT / "docs" / "report-1.schema.json").read_text()))
    told = document["durations"]
    assert [entry["symbol"] for entry in told["targets"]] == ["attention", "quick_attention"]
    assert 0 < told["targets"][1]["seconds"] < told["targets"][0]["seconds"] < told["seconds"]
    warm = run(tmp_path, "--durations", "1")
    assert warm.splitlines()[-1] == "No target was run: nothing had to be, or all results were kept from earlier runs."
    listed = run(tmp_path, "--durations", "1", "--no-cache").splitlines()
    assert listed[-2].startswith("Took ")
    assert listed[-1].endswith(" s  kernel.py: attention")


def test_times_are_told_where_they_are_wanted_and_not_elsewhere(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(CLEAN)
    assert "Took" not in lint("kernel.py").stdout
    assert "Took" in lint("kernel.py", "--verbose").stdout
    assert "durations" not in json.loads(lint("kernel.py", "--output-format", "json").stdout)
    assert "durations" in json.loads(lint("kernel.py", "--output-format", "json", "--verbose").stdout)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--durations", "-1"], "--durations -1: expected how many targets to list, 0 for all."),
        (["--durations", "3", "--output-format", "sarif"], "--durations has no form as sarif: take text or json."),
        (["--durations", "3", "-q"], "--durations has no form as concise: take text or json."),
    ],
)
def test_what_cannot_be_told_is_refused(lint: Lint, folder: Path, words: list[str], sentence: str) -> None:
    result = lint(*words, ".")
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
