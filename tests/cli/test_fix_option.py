"""``--fix``: writes what was run, where it can be taken back, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE

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


def fix(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "theria_lint", "--fix", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path.cwd()), "XDG_CACHE_HOME": str(folder.parent / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_committed_file_is_written_and_linted_again(project: Path) -> None:
    done = fix(project, "src")
    assert (project / "src" / "kernel.py").read_text() == MENDED
    assert done.returncode == 0
    assert done.stdout == "1 file, 0 suspects; 1 target: 1 safe.\n"
    assert "src/kernel.py is rewritten; git checkout HEAD -- src/kernel.py takes it back." in done.stderr
    git(project, "checkout", "HEAD", "--", "src/kernel.py")
    assert (project / "src" / "kernel.py").read_text() == UNSAFE


def test_what_git_cannot_restore_is_left_alone_unless_a_backup_is_kept(project: Path) -> None:
    kernel = project / "src" / "kernel.py"
    kernel.write_text(f"# mine\n{UNSAFE}")
    new = project / "src" / "new.py"
    new.write_text(OTHER)
    refused = fix(project, "src")
    assert (kernel.read_text(), new.read_text(), refused.returncode) == (f"# mine\n{UNSAFE}", OTHER, 1)
    assert refused.stderr.count("keep one beside it with --backup") == 2
    done = fix(project, "--backup", "src")
    assert (done.returncode, kernel.read_text()) == (0, f"# mine\n{MENDED}")
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
    assert fix(project, "src").returncode == 0
    assert (project / "src" / "kernel.py").read_text() == MENDED
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
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_a_file_that_changes_meanwhile_is_left_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from theria_lint.config import resolve_settings
    from theria_lint.pipeline import lint_paths
    from theria_lint.write_fixes import write_fixes

    monkeypatch.chdir(project)
    report = lint_paths(("src",), resolve_settings(("src",), {}, None, True).settings._replace(cache=False))
    (project / "src" / "kernel.py").write_text(f"{UNSAFE}\n\nmine = 1\n")
    fixes = write_fixes(report, ("src",), backup=True)
    assert fixes.written == ()
    assert "has changed since it was read" in fixes.said[0]
    assert (project / "src" / "kernel.py").read_text() == f"{UNSAFE}\n\nmine = 1\n"
    assert not (project / "src" / "kernel.py.orig").exists()
