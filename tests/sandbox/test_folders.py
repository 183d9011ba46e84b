"""Folders that code under test has filled are measured and removed, however they are made."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from theria_lint.reasons import Reason, ReasonCode
from theria_lint.sandbox import linux, tempdir

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders have other descriptors there")

NOBODY = 65534


def nest(folder: Path, depth: int, name: str) -> None:
    """Makes folders in each other, beyond what a path can name."""
    place = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=place)
        inner = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.close(place)


def test_folders_beyond_the_longest_path_are_removed(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    nest(tmp_path / "job", 3000, "d" * 200)
    assert tempdir.remove_folder(str(tmp_path / "job"))
    assert list(tmp_path.iterdir()) == []


def test_names_that_removing_would_choose_are_passed_over(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / "job" / "inner" / f".theria-lint-{number}" / "deeper").mkdir(parents=True)
        (tmp_path / "job" / f".theria-lint-{number}").mkdir()
    assert tempdir.remove_folder(str(tmp_path / "job"))


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    (tmp_path / "outside").chmod(0o750)
    (tmp_path / "job" / "inner").mkdir(parents=True)
    (tmp_path / "job" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "job" / "inner" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "job" / "inner" / "file").hardlink_to(tmp_path / "outside" / "kept")
    assert tempdir.remove_folder(str(tmp_path / "job"))
    assert (tmp_path / "outside" / "kept").exists()
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o750
    (tmp_path / "job").symlink_to(tmp_path / "outside")
    assert not tempdir.remove_folder(str(tmp_path / "job"))
    assert (tmp_path / "outside" / "kept").exists()


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o400, 0o500])
def test_folders_that_allow_nothing_are_removed(tmp_path: Path, mode: int) -> None:
    nest(tmp_path, 5, "d")

    def attack() -> bool:
        for depth in range(5, 0, -1):
            Path("/".join("d" * depth)).chmod(mode)
        return tempdir.remove_folder("d")

    assert as_user(attack, tmp_path)
    assert not (tmp_path / "d").exists()


def as_user(action: Callable[[], bool], folder: Path) -> bool:
    """Whether an action succeeds in a process without root's powers, inside a folder."""
    for place in (folder, *folder.rglob("*")):
        os.chown(place, *((NOBODY, NOBODY) if os.geteuid() == 0 else (-1, -1)))
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os._exit(0 if action() else 1)
        finally:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


def test_what_is_within_the_limits_is_no_excess(tmp_path: Path) -> None:
    nest(tmp_path, tempdir.DEPTH - 1, "d")
    (tmp_path / "link").symlink_to(tmp_path)
    assert tempdir.find_excess(str(tmp_path)) is None
    assert tempdir.find_excess(str(tmp_path / "gone")) is None


@pytest.mark.parametrize("depth", [tempdir.DEPTH + 1, 3000])
def test_depth_is_an_excess(tmp_path: Path, depth: int) -> None:
    nest(tmp_path, depth, "d" * 100)
    assert tempdir.find_excess(str(tmp_path)) == Reason(ReasonCode.FOLDERS_TOO_DEEP, {"most": 64})
    tempdir.remove_folder(str(tmp_path))


def test_number_is_an_excess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempdir, "ENTRIES", 10)
    for number in range(11):
        (tmp_path / str(number)).mkdir()
    assert tempdir.find_excess(str(tmp_path)) == Reason(ReasonCode.TOO_MANY_FILES, {"most": 10})


def test_size_is_an_excess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempdir, "SIZE", 1 << 20)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(b"x" * (2 << 20))
    assert tempdir.find_excess(str(tmp_path)) == Reason(ReasonCode.TOO_MUCH_DISK, {"mib": 1})


def test_what_cannot_be_read_is_an_excess(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir(0)
    assert as_user(lambda: tempdir.find_excess(".") == Reason(ReasonCode.FOLDERS_CLOSED), tmp_path)


def test_a_removed_file_that_is_held_open_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempdir, "SIZE", 1 << 16)
    with (tmp_path / "held").open("wb") as file:
        file.write(b"x" * (1 << 20))
        file.flush()
        assert tempdir.find_excess(str(tmp_path)) is not None
        (tmp_path / "held").unlink()
        assert tempdir.find_excess(str(tmp_path)) is None


def test_what_starts_faster_than_it_is_ended_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "_PATIENCE", 0.2)
    monkeypatch.setattr(linux, "list_children", lambda: [2**22 + 1])  # above the largest number that a process has
    linux.bury()
