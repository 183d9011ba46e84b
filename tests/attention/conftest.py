from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from tests.support.attention_grid import worst
from theria.attention.triton import blocks

# a GPU machine may have PyTorch and pytest alone
collect_ignore = [] if find_spec("hypothesis") else ["test_attention_grid.py"]


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 16 × 32 in the interpreter, so that short sequences run the loops over tiles too."""
    monkeypatch.setattr(blocks, "choose_interpreted", lambda *_: blocks.Blocks(16, 32, 4, 1))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA GPU")
    for item in items:
        if item.get_closest_marker("gpu") and "attention" in item.path.parts:
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not worst:
        return
    terminalreporter.section("attention: worst block error against float64")
    terminalreporter.write_line(f"{'backend':10} {'dtype':9} {'device':6} {'error':>9}  of bound  in block")
    for (backend, dtype, device), (found, share, name) in sorted(worst.items()):
        terminalreporter.write_line(f"{backend:10} {dtype:9} {device:6} {found:9.1e}  {share:8.0%}  {name}")
