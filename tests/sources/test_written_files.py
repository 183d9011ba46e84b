"""Files that the user asked for: through no link that leads elsewhere than its name says."""

from __future__ import annotations

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
