"""What every import of a recorded program costs, and which file it is taken for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from theria_lint.calls import marked_sources
from theria_lint.calls.marked_sources import _resolve, _resolve_folder


def test_files_are_known_by_their_real_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").touch()
    (tmp_path / "link").symlink_to("one")
    (tmp_path / "one" / "b.py").symlink_to(tmp_path / "two" / "a.py")
    assert _resolve(str(tmp_path / "link" / "a.py")) == str(tmp_path / "one" / "a.py")
    assert _resolve(str(tmp_path / "one" / "b.py")) == str(tmp_path / "two" / "a.py")
    for folder in ("one", "two"):
        monkeypatch.chdir(tmp_path / folder)
        assert _resolve("a.py") == str(tmp_path / folder / "a.py")


def test_a_folder_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = os.path.realpath

    def realpath(path: str) -> str:
        asked.append(path)
        return real(path)

    _resolve_folder.cache_clear()
    monkeypatch.setattr(marked_sources.os.path, "realpath", realpath)
    assert [_resolve(str(tmp_path / f"{n}.py")) for n in range(9)] == [f"{tmp_path}/{n}.py" for n in range(9)]
    assert asked == [str(tmp_path)]
