"""The picture in the README: it is there, moderate, and made by the script that says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import report_picture


def test_the_readme_shows_the_picture_that_the_script_makes() -> None:
    shown = report_picture.PICTURE.relative_to(report_picture.ROOT).as_posix()
    assert f"]({shown})" in (report_picture.ROOT / "README.md").read_text(encoding="utf-8")
    assert 10_000 < report_picture.PICTURE.stat().st_size <= report_picture.LARGEST


@pytest.mark.skipif(not any(map(shutil.which, report_picture.PROGRAMS)), reason="needs a browser")
def test_the_script_makes_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_picture, "SIZE", "600,300")
    report_picture.make_picture(tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
