"""An environment with ``theria-lint`` in it, and an editor that speaks to its server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from editor_page import environment
from lsp_editor import Editor


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "workspace"
    place.mkdir()
    return place


@pytest_asyncio.fixture
async def editor(folder: Path, variables: dict[str, str]) -> AsyncIterator[Editor]:
    """An editor whose server is yet to be started."""
    made = Editor(folder, variables)
    yield made
    await made.quit()
