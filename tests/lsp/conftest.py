"""An environment with ``theria-lint`` in it, an editor that speaks to its server, and a project to run editors in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.editor_page import environment
from tests.support.editor_project import Project, make_project
from tests.support.lsp_editor import Editor


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "workspace"
    place.mkdir()
    return place


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("home"))


@pytest_asyncio.fixture
async def editor(folder: Path, variables: dict[str, str]) -> AsyncIterator[Editor]:
    """An editor whose server is yet to be started."""
    made = Editor(folder, variables)
    yield made
    await made.quit()
