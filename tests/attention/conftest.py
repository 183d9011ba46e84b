from __future__ import annotations

import pytest
import torch
from attention_grid import worst
from hypothesis import settings
from theria.attention.triton import blocks

settings.register_profile("attention", derandomize=True, deadline=None, database=None)
settings.load_profile("attention")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 16 × 32, so that short sequences run the loops over tiles too."""
    monkeypatch.setattr(blocks, "choose", lambda *_, **__: blocks.Blocks(16, 32, 4, 1))


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
