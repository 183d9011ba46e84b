"""Patterns mean what git says they mean."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from theria_lint.patterns import Patterns

PATTERNS = [
    "*.py", "a", "a/", "/a", "a/b", "/a/b.py", "**/b", "a/**", "a/**/c.py", "**", "!c.py", "!a/c.py", "!a/", "[ab].py",
    "[!a].py", "[^b]*", "a?c.py", "?", r"\!x.py", r"\#x.py", "# comment", "", " ", "x.py ", r"x\ ", "a*/c.py", "*/",
    "b/*", "[a-c]", "***", "a**b.py", "/*", "!/a", "[", "a\\", "[]].py", "**/a/**", "/**/c.py",
]  # fmt: skip
PATHS = [
    "a/b/c.py",
    "a/c.py",
    "b/c.py",
    "c.py",
    "abc.py",
    "b/a/c.py",
    "x.py",
    "!x.py",
    "#x.py",
    "c/a",
    "a/b/a.py",
    "].py",
]


def _ignored_by_git(folder: Path, lines: list[str]) -> set[str]:
    (folder / ".gitignore").write_text("\n".join(lines) + "\n")
    found = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin", "-z"],
        cwd=folder, input="\0".join(PATHS), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return set(filter(None, found.stdout.split("\0")))


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the oracle")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=4))
def test_patterns_agree_with_git(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp() / "repository"
    if not (folder / ".git").exists():
        folder.mkdir(exist_ok=True)
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    patterns = Patterns(lines)
    assert {path for path in PATHS if patterns.match_within(path)} == _ignored_by_git(folder, lines)


def test_a_directory_pattern_says_nothing_about_a_file() -> None:
    patterns = Patterns(["build/"])
    assert patterns.match("build", is_dir=True) is True
    assert patterns.match("build") is None
    assert patterns.match_within("build/x.py")
