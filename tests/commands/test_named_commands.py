"""The commands beside the main form, as a person types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE
from theria_lint.commands import COMMANDS
from theria_lint.sources.owned_folder import KEY, MARK, NAME, TAG


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "kernel.py").write_text(UNSAFE)
    return tmp_path / "shop"


def type_line(project: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``theria-lint`` with some words, with a cache folder of its own."""
    return subprocess.run(
        [sys.executable, "-m", "theria_lint", *words],
        cwd=project,
        env=os.environ | {"XDG_CACHE_HOME": str(project.parent / "cache"), "PYTHONPATH": str(Path.cwd())} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_check_is_the_main_form(project: Path) -> None:
    plain = type_line(project, "--no-confirm", "kernel.py")
    named = type_line(project, "check", "--no-confirm", "kernel.py")
    assert plain.returncode == 1
    assert (named.stdout, named.stderr, named.returncode) == (plain.stdout, plain.stderr, plain.returncode)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "server"])
def test_each_command_has_its_help_and_the_main_one_lists_it(project: Path, name: str) -> None:
    told = type_line(project, name, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"Usage: theria-lint {name} ")
    listed = type_line(project, "--help").stdout.partition("\nCommands:\n")[2].partition("\nOptions:\n")[0]
    assert any(line.split()[:1] == [name] for line in listed.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_is_called_like_a_command_is_linted_by_its_path(project: Path, name: str) -> None:
    (project / name).mkdir()
    (project / name / "kernel.py").write_text(UNSAFE)
    told = type_line(project, "--no-confirm", "--quiet", f"./{name}")
    assert told.stdout.startswith(f"{name}/kernel.py:6:20: THL002 ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["chekc"], 'chekc: no such file, directory or command (did you mean "check"?)'),
        (["--no-confirm", "clean"], "clean: no such file or directory; the command clean has to be the first word."),
        (["explain", "silent_colapse"], '(did you mean "silent_collapse"?)'),
        (["explain"], "Missing argument 'WORD...'"),
        (["clean", "--cache-dir", ""], "cache-dir = '': expected a non-empty string."),
        (["clean", "."], "Got unexpected extra argument (.)"),
        (["clean", "--config", "none.toml"], "none.toml: cannot be read: No such file or directory."),
    ],
)
def test_wrong_words_are_answered_with_what_may_be_meant(project: Path, words: list[str], sentence: str) -> None:
    told = type_line(project, *words)
    assert (told.returncode, told.stdout) == (2, "")
    assert sentence in told.stderr
    assert "Traceback" not in told.stderr


def test_explain_explains_each_word(project: Path) -> None:
    told = type_line(project, "explain", "thl005", "SILENT_COLLAPSE")
    assert told.returncode == 0
    assert told.stdout.startswith("# THL005 saved-intermediate")
    assert type_line(project, "--explain", "silent-collapse").stdout in told.stdout


def list_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_clean_removes_what_was_kept_and_says_so(project: Path) -> None:
    type_line(project, "--no-confirm", "kernel.py")
    place = project.parent / "cache" / "theria-lint" / NAME
    kept = [name for name in list_files(place) if name.endswith(".json")]
    assert kept
    told = type_line(project, "clean")
    assert told.stdout.startswith(f"{place}: removed {len(kept)} result")
    assert list_files(place) == {TAG, KEY, ".gitignore", "static/pruned"}
    assert type_line(project, "clean").stdout == f"{place}: no results are kept there.\n"


def test_clean_leaves_what_is_not_provably_ours(project: Path) -> None:
    type_line(project, "--no-confirm", "kernel.py", "--cache-dir", "kept")
    place = project / "kept" / NAME
    foreign = place / "static" / "ab" / f"{'c' * 30}.suspects.json"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("mine")
    outside = project / "notes"
    outside.mkdir()
    (outside / f"{'c' * 30}.suspects.json").write_text("mine")
    (place / "static" / "ff").rmdir() if (place / "static" / "ff").exists() else None
    (place / "static" / "ff").symlink_to(outside)
    told = type_line(project, "clean", "--cache-dir", "kept")
    assert told.stdout.splitlines()[1:] == [f"{place}: left 1 file that theria-lint cannot prove to have written."]
    assert (foreign.read_text(), list_files(outside)) == ("mine", {f"{'c' * 30}.suspects.json"})


def test_clean_removes_no_entry_that_a_project_has_brought(project: Path, tmp_path: Path) -> None:
    """A shipped folder has our mark, and entries that are signed with a key of its own: they are none of ours."""
    type_line(project, "--no-confirm", "kernel.py", "--cache-dir", str(tmp_path / "theirs"))
    (tmp_path / "theirs").rename(project / "kept")
    before = list_files(project / "kept")
    assert "left" in type_line(project, "clean", "--cache-dir", "kept").stdout
    assert list_files(project / "kept") == before


def test_clean_touches_no_folder_without_the_mark(project: Path) -> None:
    place = project / "kept" / NAME / "static" / "ab"
    place.mkdir(parents=True)
    (place / f"{'c' * 30}.suspects.json").write_text("mine")
    assert "nothing is removed" in type_line(project, "clean", "--cache-dir", "kept").stdout
    (project / "kept" / NAME / TAG).write_bytes(MARK + b"not quite")
    assert "nothing is removed" in type_line(project, "clean", "--cache-dir", "kept").stdout
    assert (place / f"{'c' * 30}.suspects.json").read_text() == "mine"
