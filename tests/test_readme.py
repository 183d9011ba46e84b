"""The README's commands and what it shows, held to what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ROUNDING = re.compile(r"\d\.\d*e-1\d")
"""Numbers of the size of float64 rounding: they differ from one processor to the next."""


def commands() -> list[str]:
    return re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)


def test_there_are_two_commands_for_a_fresh_machine():
    lint, test = commands()
    assert lint.endswith(".venv/bin/theria-lint examples/kernels")
    assert ".venv/bin/python -m pytest" in test


def test_ci_calls_the_readmes_test_command():
    assert commands()[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_paths_that_the_readme_links_to_exist():
    links = re.findall(r"\]\(([^)#:\s]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.fixture(scope="module")
def output():
    command = [sys.executable, "-m", "theria_lint", "--no-cache", "--isolated", "examples/kernels"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    return done.stdout


def test_the_readme_shows_what_linting_the_examples_prints(output):
    shown = README.split("```console\n", 1)[1].split("```", 1)[0].splitlines()
    assert shown[0] == "$ theria-lint examples/kernels"
    printed = [ROUNDING.sub("~", line) for line in output.splitlines()]
    lines = [ROUNDING.sub("~", line) for line in shown[1:] if line not in ("", "…")]
    assert len(lines) > 10
    assert [line for line in lines if line not in printed] == []
