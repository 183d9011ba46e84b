"""The README's commands for a fresh machine, and its links; what else it shows is run by ``tests/docs``."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    return re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)


def test_there_are_two_commands_for_a_fresh_machine():
    lint, test = commands()
    assert lint.endswith(".venv/bin/theria-lint examples/kernels")
    assert ".venv/bin/python -m pytest" in test


def test_ci_calls_the_readmes_test_command():
    assert commands()[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_paths_that_the_readme_links_to_exist():
    links = re.findall(r"\]\(([^)#:\s]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
