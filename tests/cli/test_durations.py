"""How long things took: ``--durations``, ``-v`` and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.support.lint_case import CLEAN, Lint

ROOT = Path(__file__).parents[2]


def test_the_slowest_targets_are_told_and_those_that_were_kept_took_nothing(lint: Lint, folder: Path) -> None:
    slow = CLEAN.replace("def attention(q, k, v):", "def attention(q, k, v):\n    sum(range(300_000))")
    (folder / "kernel.py").write_text(CLEAN.replace("attention", "quick_attention") + slow)

    def run(*words: str) -> str:
        done = lint(*words, "kernel.py", confirm=True)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    document = json.loads(run("--output-format", "json", "--durations", "0"))
    jsonschema.validate(document, json.loads((ROOT / "docs" / "report-1.schema.json").read_text()))
    told = document["durations"]
    assert [entry["symbol"] for entry in told["targets"]] == ["attention", "quick_attention"]
    assert 0 < told["targets"][1]["seconds"] < told["targets"][0]["seconds"] < told["seconds"]
    warm = run("--durations", "1")
    assert warm.splitlines()[-1] == "No target was run: nothing had to be, or all results were kept from earlier runs."
    listed = run("--durations", "1", "--no-cache").splitlines()
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
