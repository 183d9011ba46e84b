"""Which files are looked at."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE, Lint
from theria_lint.config import Settings
from theria_lint.errors import UserError
from theria_lint.sources.discovery import discover_files


def _write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")


def _found(folder: Path, *paths: str, **settings: object) -> list[str]:
    return discover_files(paths or (".",), Settings(root=str(folder), **settings)).files  # type: ignore[arg-type]


def test_python_files_and_notebooks_in_a_stable_order(folder: Path) -> None:
    _write(folder, "b.py", "a/z.py", "a/a.ipynb", "c.txt", "a.py", "stub.pyi")
    assert _found(folder) == ["a.py", "a/a.ipynb", "a/z.py", "b.py"]
    assert _found(folder, "a", "b.py") == ["a/a.ipynb", "a/z.py", "b.py"]


def test_a_named_file_is_taken_whatever_its_suffix(folder: Path) -> None:
    _write(folder, "script")
    assert _found(folder, "script") == ["script"]


def test_directories_that_hold_nobodys_own_code_are_skipped_but_not_when_named(folder: Path) -> None:
    _write(folder, "x.py", "env/pyvenv.cfg", "env/y.py", "node_modules/z.py", "site-packages/torch/t.py", ".git/h.py")
    assert _found(folder) == ["x.py"]
    assert _found(folder, "site-packages/torch") == ["site-packages/torch/t.py"]
    assert _found(folder, "env") == ["env/y.py"]


def test_a_circle_of_links_ends(folder: Path) -> None:
    _write(folder, "a/x.py")
    (folder / "a" / "loop").symlink_to(folder / "a")
    (folder / "self.py").symlink_to(folder / "self.py")
    (folder / "nowhere.py").symlink_to(folder / "none.py")
    (folder / "link.py").symlink_to(folder / "a" / "x.py")
    assert _found(folder) == ["a/x.py", "link.py"]


def test_a_link_in_a_circle_that_is_named_does_not_exist(folder: Path) -> None:
    (folder / "self.py").symlink_to(folder / "self.py")
    with pytest.raises(UserError, match=r"^self\.py: no such file or directory\.$"):
        _found(folder, "self.py")


def test_a_named_pipe_is_not_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe.py")
    assert _found(folder) == []
    with pytest.raises(UserError, match="is not a file"):
        _found(folder, "pipe.py")


def test_what_git_ignores_is_left_out(folder: Path) -> None:
    _write(folder, "a.py", "build/b.py", "sub/gen_c.py", "sub/gen_keep.py", "sub/d.py", "private.py")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / ".gitignore").write_text("build/\n")
    (folder / "sub" / ".gitignore").write_text("gen_*\n!gen_keep.py\n")
    (folder / ".git" / "info" / "exclude").write_text("private.py\n")
    assert _found(folder) == ["a.py", "sub/d.py", "sub/gen_keep.py"]
    assert "build/b.py" in _found(folder, respect_gitignore=False)
    assert _found(folder, "build/b.py") == ["build/b.py"]


def test_ignore_files_above_the_directory_count_unless_they_ignore_it(folder: Path) -> None:
    _write(folder, "sub/a.py", "sub/gen.py", "ignored/b.py", "ignored/gen.py")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / ".gitignore").write_text("gen.py\nignored/\n")
    assert _found(folder, "sub") == ["sub/a.py"]
    assert _found(folder, "ignored") == ["ignored/b.py", "ignored/gen.py"]


def test_exclude_holds_for_named_files_too(folder: Path) -> None:
    _write(folder, "a.py", "vendor/b.py", "vendor/keep.py")
    assert _found(folder, exclude=("vendor/",)) == ["a.py"]
    assert _found(folder, "vendor/b.py", "a.py", exclude=("vendor/",)) == ["a.py"]
    assert _found(folder, exclude=("vendor/*", "!keep.py")) == ["a.py", "vendor/keep.py"]


def test_an_excluded_file_is_named_in_a_note(lint: Lint, folder: Path) -> None:
    (folder / "a.py").write_text(UNSAFE)
    result = lint("a.py", "--exclude", "a.*")
    assert result.stderr == "Note: a.py is excluded by the configuration\nNote: No Python files found\n"
    assert result.exit_code == 0


def test_a_directory_that_cannot_be_listed_is_an_error(
    lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(folder, "secret/a.py")
    scandir = os.scandir

    def denied(path: str) -> object:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", denied)
    result = lint(".")
    assert result.stdout.startswith("secret: error: cannot be listed: Permission denied\n")
    assert result.exit_code == 1


def test_a_link_out_of_the_directory_is_not_followed_unless_it_is_named(lint: Lint, folder: Path) -> None:
    (folder.parent / "secret.py").write_text(UNSAFE)
    (folder / "leak.py").symlink_to(folder.parent / "secret.py")
    result = lint()
    assert result.stdout.count("THL002") == 0
    assert result.stderr == (
        "Note: links that lead out of the directory that is checked are not followed\n"
        "  note: leak.py\n"
        "  help: Name what they lead to, to have it checked\n"
        "Note: No Python files found\n"
    )
    assert lint("leak.py").stdout.startswith("leak.py:6:20: THL002")


def test_a_module_that_is_a_link_out_of_its_package_is_not_read(folder: Path) -> None:
    from theria_lint.static.import_resolver import ImportResolver

    _write(folder, "p/__init__.py", "p/a.py", "p/b.py", "elsewhere.py")
    (folder / "p" / "c.py").symlink_to(folder / "elsewhere.py")
    modules = ImportResolver([])
    assert [thing.path for thing in modules.resolve_import("p/a.py", ".b.f")] == ["p/b.py", "p/__init__.py"]
    assert [thing.path for thing in modules.resolve_import("p/a.py", ".c.f")] == ["p/__init__.py"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_no_pipe_is_opened_whatever_its_name(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "sub").mkdir()
    os.mkfifo(folder / "sub" / ".gitignore")
    os.mkfifo(folder / "theria-lint.toml")
    (folder / "rules" / "THL900-x").mkdir(parents=True)
    os.mkfifo(folder / "rules" / "THL900-x" / "rule.toml")
    result = lint()
    assert result.stdout.startswith("kernel.py:6:20: THL002")
    assert result.stderr == "Note: sub/.gitignore is not heeded: it is not a file\n"
    assert (
        lint("--rule-path", "rules").stderr == "Error: " + str(folder) + "/rules/THL900-x/rule.toml: is not a file.\n"
    )
    os.mkfifo(folder / "pipe")
    assert lint("--config", "pipe").stderr == "Error: pipe: is not a file.\n"


def test_an_ignore_file_is_no_link_and_of_a_length_that_somebody_writes(lint: Lint, folder: Path) -> None:
    _write(folder, "sub/a.py", "b.py")
    (folder / "patterns").write_text("a.py\n")
    (folder / "sub" / ".gitignore").symlink_to(folder / "patterns")
    assert _found(folder) == ["b.py", "sub/a.py"]
    (folder / ".gitignore").write_text("# " + "x" * 300_000 + "\nb.py\n")
    reason = "it is 293 kB, more than the 256 kB that are read"
    assert lint().stderr == f"Note: .gitignore is not heeded: {reason}\n"


def test_of_all_ignore_files_together_a_megabyte_is_taken(lint: Lint, folder: Path) -> None:
    for number in range(5):
        (folder / f"{number}").mkdir()
        (folder / f"{number}" / "kernel.py").write_text(UNSAFE)
        (folder / f"{number}" / ".gitignore").write_text("*.py\n" + "# nothing\n" * 25_000)
    result = lint()
    (note,) = result.stderr.splitlines()
    assert note.endswith(
        ".gitignore is not heeded: it has more than is left of the 1 MB of patterns that are taken in all"
    )
    assert "1 file, 1 suspect" in result.stdout
