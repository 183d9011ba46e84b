"""How the tests are spread over processes, and what those of the command line share.

Click is imported when it is used, as a GPU machine may have PyTorch alone.
"""

from __future__ import annotations

import compileall
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from click.testing import Result

    from tests.support.lint_case import Lint


# Tests run in a process for each processor: threads beside them would wait for one another, and wait busily.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
LONGEST_ROOMS = ("docs", "lsp", "worker", "confirm", "launch", "static", "sandbox", "release", "attention")
"""What takes long comes first, so that no processor waits at the end for another."""


def pytest_configure(config: pytest.Config) -> None:
    """Compile the packages once, where each process that tests start would do so: nothing else may keep its result."""
    if not hasattr(config, "workerinput"):
        for package in ("theria", "theria_lint"):
            compileall.compile_dir(ROOT / package, quiet=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by their rooms."""
    places = {room: place for place, room in enumerate(LONGEST_ROOMS)}
    items.sort(key=lambda item: min(places.get(part, len(places)) for part in Path(item.location[0]).parts))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a file's tests to one process: they share what was linted once, and the worker that ran it."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


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

    from tests.support.kept_workers import keep_workers
    from theria_lint.cli import run_command_line

    def run(*arguments: str, stdin: str | bytes | None = None, confirm: bool = False) -> Result:
        chosen = [] if confirm else ["--no-confirm"]
        with keep_workers():
            return CliRunner().invoke(run_command_line, [*chosen, *arguments], input=stdin, prog_name="theria-lint")

    return run
