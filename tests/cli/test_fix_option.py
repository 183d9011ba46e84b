"""``--fix``: writes what was run, where it can be taken back, and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.kept_workers import keep_workers
from tests.support.lint_case import UNSAFE
from theria_lint.cli import run_command_line
from theria_lint.config import resolve_settings
from theria_lint.errors import UserError
from theria_lint.pipeline import lint_paths
from theria_lint.sources.atomic_write import write_bytes
from theria_lint.write_fixes import write_fixes

MENDED = UNSAFE.replace("(p @ v).detach()", "(p @ v)")
OTHER = UNSAFE.replace("def attention", "def other_attention")


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with one unsafe kernel in its last commit."""
    folder = tmp_path / "shop"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "kernel.py").write_text(UNSAFE)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Begin")
    return folder


def fix(folder: Path, *words: str) -> Result:
    environment = {"XDG_CACHE_HOME": str(folder.parent / "cache")}
    with chdir(folder), keep_workers():
        return CliRunner().invoke(run_command_line, ["--fix", *words], env=environment, prog_name="theria-lint")


def test_a_committed_file_is_written_and_linted_again(project: Path) -> None:
    done = fix(project, "src")
    assert (project / "src" / "kernel.py").read_text() == MENDED
    assert done.exit_code == 0
    assert done.stdout == "1 file, 0 suspects; 1 target: 1 safe.\n"
    assert "src/kernel.py is rewritten; git -C src restore --source HEAD -- kernel.py takes it back." in done.stderr
    git(project, "checkout", "HEAD", "--", "src/kernel.py")
    assert (project / "src" / "kernel.py").read_text() == UNSAFE


def test_what_git_cannot_restore_is_left_alone_unless_a_backup_is_kept(project: Path) -> None:
    kernel = project / "src" / "kernel.py"
    kernel.write_text(f"# mine\n{UNSAFE}")
    new = project / "src" / "new.py"
    new.write_text(OTHER)
    refused = fix(project, "src")
    assert (kernel.read_text(), new.read_text(), refused.exit_code) == (f"# mine\n{UNSAFE}", OTHER, 1)
    assert refused.stderr.count("keep one beside it with --backup") == 2
    done = fix(project, "--backup", "src")
    assert (done.exit_code, kernel.read_text()) == (0, f"# mine\n{MENDED}")
    assert (kernel.with_name("kernel.py.orig").read_text(), new.with_name("new.py.orig").read_text()) == (
        f"# mine\n{UNSAFE}",
        OTHER,
    )
    kernel.write_text(UNSAFE)
    again = fix(project, "--backup", "src")
    assert "kernel.py.orig is there already; move it away" in again.stderr
    assert kernel.read_text() == UNSAFE


def test_nothing_is_written_through_a_link_or_out_of_what_was_named(project: Path) -> None:
    kernel = project / "src" / "kernel.py"
    (project / "lib").mkdir()
    (project / "lib" / "linked.py").symlink_to("../src/kernel.py")
    for named, told in (("lib", "lib/linked.py"), ("lib/linked.py", "behind a link; name that file itself")):
        done = fix(project, "--backup", named)
        assert told in done.stderr
        assert (kernel.read_text(), (project / "lib" / "linked.py").is_symlink()) == (UNSAFE, True)


def test_a_repository_runs_nothing_when_it_is_asked(project: Path) -> None:
    """Filters, hooks and monitors that a repository configures are programs of somebody else."""
    trap = project.parent / "ran"
    git(project, "config", "core.fsmonitor", f"touch {trap};:")
    git(project, "config", "filter.trap.clean", f"touch {trap}; cat")
    git(project, "config", "filter.trap.smudge", f"touch {trap}; cat")
    (project / ".git" / "info" / "attributes").write_text("*.py filter=trap\n")
    assert fix(project, "src").exit_code == 0
    assert (project / "src" / "kernel.py").read_text() == MENDED
    assert not trap.exists()


def test_git_is_no_program_of_the_folder_that_is_linted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = project.parent / "ran"
    for folder in (project, project / "src"):
        (folder / "git").write_text(f"#!/bin/sh\ntouch {trap}\n")
        (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}{os.environ['PATH']}")
    assert fix(project, "src").exit_code == 0
    assert not trap.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--no-confirm", "src"],
            "--fix writes rewrites that were run, and nothing is run (confirm is off): add --confirm.",
        ),
        (["--diff", "src"], "which --diff keeps from being done: leave out one of the two."),
        (["--add-ignores", "src"], "which --add-ignores keeps from being done: leave out one of the two."),
        (["-"], "--fix writes files, and standard input is none: name the file."),
    ],
)
def test_what_keeps_it_from_writing_is_refused(project: Path, words: list[str], sentence: str) -> None:
    done = fix(project, *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr


Write = Callable[..., list[str]]


@pytest.fixture
def write(project: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Lint the project, let something happen, and write what was found; returns what is said."""
    monkeypatch.chdir(project)

    def run(meanwhile: Callable[[], object] = bool, *, backup: bool = False, **changed: Any) -> list[str]:
        settings = resolve_settings(("src",), {}, None, True).settings._replace(cache=False)
        with keep_workers():
            report = lint_paths(("src",), settings)
        meanwhile()
        said: list[str] = []
        write_fixes(report._replace(**changed), ("src",), backup, said.append)
        return said

    return run


def commit_kernel(project: Path, data: bytes, name: str = "kernel.py") -> Path:
    path = project / "src" / name
    path.write_bytes(data)
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "Change")
    return path


def test_a_file_that_changes_meanwhile_is_left_alone(project: Path, write: Write) -> None:
    kernel = project / "src" / "kernel.py"
    (sentence,) = write(lambda: kernel.write_text(f"{UNSAFE}\n\nmine = 1\n"), backup=True)
    assert "has changed since it was read" in sentence
    assert kernel.read_text() == f"{UNSAFE}\n\nmine = 1\n"
    assert not kernel.with_name("kernel.py.orig").exists()


@pytest.mark.parametrize("head", [b"# coding: utf-7\n# a+AAo-b = 3\n", b"# coding: iso2022_jp\n# \x1b$B4A\n\x1b(B\n"])
def test_a_file_whose_bytes_have_other_lines_than_its_text_is_left_alone(
    project: Path, write: Write, head: bytes
) -> None:
    kernel = commit_kernel(project, head + UNSAFE.encode())
    (sentence,) = write()
    assert "in an encoding in which no line can be changed by itself" in sentence
    assert kernel.read_bytes() == head + UNSAFE.encode()


def test_each_line_keeps_its_own_end(project: Path, write: Write) -> None:
    kernel = commit_kernel(project, UNSAFE.replace("\n", "\r\n", 3).encode())
    write()
    assert kernel.read_bytes() == MENDED.replace("\n", "\r\n", 3).encode()


@pytest.mark.parametrize(("name", "backup"), [("*.py", False), (":k.py", False), ("-k.py", True)])
def test_what_is_said_takes_it_back_and_nothing_else(project: Path, write: Write, name: str, backup: bool) -> None:
    """A name may be a pattern to git: the author of a project chooses it. What is staged stays so."""
    (project / "src" / "kernel.py").rename(project / "src" / name)
    other = commit_kernel(project, b"", "other.py")
    other.write_text("mine = 1\n")
    kernel = project / "src" / name
    kernel.write_text("staged = 1\n")
    git(project, "add", ".")
    kernel.write_text(UNSAFE)
    (sentence,) = write(backup=backup)
    assert kernel.read_text() == MENDED
    subprocess.run(sentence.partition("; ")[2].removesuffix(" takes it back."), shell=True, cwd=project, check=True)
    assert (kernel.read_text(), other.read_text()) == (UNSAFE, "mine = 1\n")
    assert git(project, "show", f":src/{name}") == "staged = 1\n"


def test_a_backup_has_the_mode_of_its_file(project: Path, write: Write) -> None:
    kernel = project / "src" / "kernel.py"
    kernel.chmod(0o700)
    write(backup=True)
    assert kernel.with_name("kernel.py.orig").stat().st_mode == kernel.stat().st_mode


@pytest.mark.parametrize("means", ["comment", "settings"])
def test_a_line_that_somebody_wants_as_it_is_stays(project: Path, means: str) -> None:
    comment = "  # theria: ignore[THL001]" if means == "comment" else ""
    text = UNSAFE.replace("    p =", f"    with torch.no_grad():{comment}\n        p =")
    kernel = commit_kernel(project, text.encode())
    words = ["--ignore", "THL001"] if means == "settings" else []
    done = fix(project, *words, "src")
    assert "it changes line 5 of src/kernel.py too, where THL001 is left out of the report" in done.stderr
    assert (kernel.read_text(), done.exit_code) == (text, 1)


def test_a_file_that_was_not_linted_is_left_alone(project: Path, write: Write) -> None:
    assert "left out" in write(linted=())[0]
    assert (project / "src" / "kernel.py").read_text() == UNSAFE


def test_a_copy_that_git_only_names_is_none(project: Path, write: Write) -> None:
    """Nor is one fetched: what is run for that, the repository says."""
    name = git(project, "rev-parse", "HEAD:src/kernel.py").strip()
    (project / ".git" / "objects" / name[:2] / name[2:]).unlink()
    trap = project.parent / "ran"
    for key, value in {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": str(project),
        "remote.origin.promisor": "true",
        "remote.origin.uploadpack": f"touch {trap};:",
        "protocol.file.allow": "always",
    }.items():
        git(project, "config", key, value)
    assert "git's last commit has no copy" in write()[0]
    assert not trap.exists()


def test_a_folder_that_a_project_has_made_a_repository_holds_no_copies(project: Path, write: Write) -> None:
    (project / "src" / "kernel.py").write_text(f"# mine\n{UNSAFE}")
    git(project, "commit", "-q", "-a", "-m", "Another")
    for name in ("HEAD", "config", "objects", "refs"):
        (project / ".git" / name).rename(project / "src" / name)
    git(project / "src", "config", "core.bare", "true")
    git(project, "init", "-q")
    git(project / "src", "update-ref", "HEAD", git(project / "src", "commit-tree", "-m", "x", "HEAD:src").strip())
    assert git(project / "src", "ls-tree", "HEAD", "kernel.py")
    assert "git's last commit has no copy" in write()[0]


def test_what_is_written_is_said_whatever_happens_then(project: Path) -> None:
    done = fix(project, "--output-file", "json:missing/report.json", "src")
    assert done.exit_code == 2
    assert "src/kernel.py is rewritten" in done.stderr


def test_a_file_that_cannot_be_written_keeps_no_other_from_it(
    project: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk(path: str, data: bytes) -> None:
        if path.endswith("kernel.py"):
            raise UserError(f"{path}: cannot be written: No space left on device.")
        write_bytes(path, data)

    monkeypatch.setattr("theria_lint.write_fixes.write_bytes", fill_disk)
    new = commit_kernel(project, OTHER.encode(), "new.py")
    said = write()
    assert [sentence.split(" ", 3)[:3] for sentence in said] == [
        ["src/kernel.py", "is", "left"],
        ["src/new.py", "is", "rewritten;"],
    ]
    assert new.read_text() != OTHER
