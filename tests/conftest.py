"""What tests of the command line share; click is imported when it is used, as a GPU machine may have PyTorch alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from click.testing import Result

    from tests.support.lint_case import Lint


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with a cache of its own."""
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return place


@pytest.fixture
def lint(folder: Path) -> Lint:
    """Runs the command line in ``folder`` without the dynamic stage."""
    from click.testing import CliRunner

    from theria_lint.cli import run_command_line

    def run(*arguments: str, stdin: str | bytes | None = None, confirm: bool = False) -> Result:
        chosen = [] if confirm else ["--no-confirm"]
        return CliRunner().invoke(run_command_line, [*chosen, *arguments], input=stdin, prog_name="theria-lint")

    return run
