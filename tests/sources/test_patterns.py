"""Patterns mean what git says they mean."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from theria_lint.sources.gitignore import GitignorePatterns

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


def _repository(factory: pytest.TempPathFactory) -> Path:
    folder = factory.getbasetemp() / "repository"
    if not (folder / ".git").exists():
        folder.mkdir(exist_ok=True)
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def _ignored_by_git(folder: Path, lines: list[str], paths: list[str]) -> set[str]:
    (folder / ".gitignore").write_text("\n".join(lines) + "\n")
    found = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin", "-z"],
        cwd=folder, input="\0".join(paths), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return set(filter(None, found.stdout.split("\0")))


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the oracle")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=4))
def test_patterns_agree_with_git(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    patterns = GitignorePatterns(lines)
    ignored = _ignored_by_git(_repository(tmp_path_factory), lines, PATHS)
    assert {path for path in PATHS if patterns.match_within(path)} == ignored


_TOKENS = [
    *("a", "b", "-", ".", " ", "!", "#", "^", "]", ":", "\\", "/", "*", "**", "**/", "/**", "?", "[", "[!", "[^"),
    *("[ab]", "[a-b]", "[b-a]", "[]a]", "[[:alpha:]]", "[[:odd:]]", "[!a]", "[\\]]", "[a/b]", "[:", ":]", "*a", "*b"),
]
_NAMES = st.text("ab-.!^[]\\# ", min_size=1, max_size=4).filter(lambda name: name.strip(".") != "")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the oracle")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.lists(st.sampled_from(_TOKENS), min_size=1, max_size=7).map("".join), min_size=1, max_size=3),
    paths=st.lists(st.lists(_NAMES, min_size=1, max_size=4).map("/".join), min_size=1, max_size=12, unique=True),
)
def test_odd_patterns_agree_with_git_on_odd_paths(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], paths: list[str]
) -> None:
    patterns = GitignorePatterns(lines)
    ignored = _ignored_by_git(_repository(tmp_path_factory), lines, paths)
    assert {path for path in paths if patterns.match_within(path)} == ignored


_HOSTILE = [
    "*a" * 14 + "*b",
    "**/a/" * 14 + "b",
    "*a/" * 14 + "*b",
    "*?a" * 300 + "b",
    "[ab]*" * 300 + "c",
    "x\\ " + " " * 100_000 + "x",
]
_LONG = ["a" * 255, "/".join(["a" * 8] * 400), "a/" * 2000 + "c"]


def test_no_pattern_makes_a_path_be_looked_at_again_and_again() -> None:
    code = "import sys; from theria_lint.sources.gitignore import GitignorePatterns\n"
    code += "lines, paths = map(eval, sys.argv[1:])\n"
    code += "print([GitignorePatterns([line]).match_within(path) for line in lines for path in paths].count(True))"
    command = [sys.executable, "-c", code, repr(_HOSTILE), repr(_LONG)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert answer.stdout == "0\n"


def test_a_directory_pattern_says_nothing_about_a_file() -> None:
    patterns = GitignorePatterns(["build/"])
    assert patterns.match_path("build", is_dir=True) is True
    assert patterns.match_path("build") is None
    assert patterns.match_within("build/x.py")
