"""Files that the user asked for: through no link that leads elsewhere than its name says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE, Lint

WRITING = {
    "a report": ("--output-file", "json:FILE"),
    "a baseline": ("--write-baseline", "FILE"),
    "comments": ("--add-ignores", "FILE"),
}


@pytest.mark.parametrize(
    ("writing", "name"),
    [
        *((writing, name) for writing in WRITING for name in ("link.py", "folder/file.py")),
        ("a report", "folder/absent.json"),
        ("a baseline", "folder/absent.json"),
    ],
)
def test_no_link_leads_out_of_the_folder(lint: Lint, folder: Path, tmp_path: Path, writing: str, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file.py").write_text(UNSAFE)
    (folder / "link.py").symlink_to(outside / "file.py")
    (folder / "folder").symlink_to(outside)
    (folder / "kernel.py").write_text(UNSAFE)
    arguments = [argument.replace("FILE", name) for argument in WRITING[writing]]
    result = lint(*arguments, *(() if writing == "comments" else ("kernel.py",)))
    real = (folder / name).resolve()
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: {name}: a link leads out of this folder, to {real}; name that file itself to write it.\n"
    )
    assert [path.name for path in outside.iterdir()] == ["file.py"]
    assert (outside / "file.py").read_text() == UNSAFE
    assert (folder / "link.py").is_symlink()


@pytest.mark.parametrize("writing", WRITING)
def test_a_link_within_the_folder_stays_one(lint: Lint, folder: Path, writing: str) -> None:
    (folder / "real.py").write_text(UNSAFE)
    (folder / "link.py").symlink_to("real.py")
    (folder / "kernel.py").write_text(UNSAFE)
    arguments = [argument.replace("FILE", "link.py") for argument in WRITING[writing]]
    assert lint(*arguments, *(() if writing == "comments" else ("kernel.py",))).exit_code in (0, 1)
    assert (folder / "link.py").is_symlink()
    assert (folder / "real.py").read_text() != UNSAFE


def test_what_is_named_elsewhere_is_written(lint: Lint, folder: Path, tmp_path: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (tmp_path / "reports").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "reports")
    lint("--output-file", f"json:{tmp_path}/latest/a.json", "--output-file", "json:../latest/b.json", "kernel.py")
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["a.json", "b.json"]


@pytest.mark.parametrize("writing", WRITING)
def test_what_is_write_protected_stays(lint: Lint, folder: Path, writing: str) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    name = "kernel.py" if writing == "comments" else "report.json"
    (folder / name).touch()
    (folder / name).chmod(0o444)
    before = (folder / name).read_bytes()
    result = lint(*(argument.replace("FILE", name) for argument in WRITING[writing]))
    assert (result.exit_code, result.stderr) == (2, f"Error: {name}: is write-protected.\n")
    assert (folder / name).read_bytes() == before


@pytest.mark.parametrize("words", [("--write-baseline", "kernel.py"), ("--output-file", "json:./kernel.py")])
def test_no_report_takes_the_place_of_what_is_linted(lint: Lint, folder: Path, words: tuple[str, str]) -> None:
    """The value was forgotten, and the path taken for it."""
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint(*words)
    assert result.exit_code == 2
    assert "kernel.py: is a file that is linted; name another one to write." in result.stderr
    assert (folder / "kernel.py").read_text() == UNSAFE


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_stays_its_owners(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    os.chown(folder / "kernel.py", 12345, 12346)
    lint("--add-ignores", "kernel.py")
    found = (folder / "kernel.py").stat()
    assert (found.st_uid, found.st_gid) == (12345, 12346)
    assert (folder / "kernel.py").read_text() != UNSAFE
