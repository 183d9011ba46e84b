"""Several processes give what one gives, in the same order."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE, Lint
from theria_lint.static import scan as scan_module
from theria_lint.static import scan_files


@pytest.fixture
def many(folder: Path) -> Path:
    """Thirty files: clean, unsafe and broken ones."""
    for number in range(30):
        text = (UNSAFE, "import os\n", "def f(:\n")[number % 3]
        (folder / f"file{number:02}.py").write_text(f"# {number}\n{text}")
    return folder


def test_processes_find_what_one_finds(lint: Lint, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = lint("--jobs", "1", "--no-cache", "--output-format", "json")
    monkeypatch.setattr(scan_files, "_MANY_BYTES", 500)
    together = lint("--jobs", "2", "--no-cache", "--output-format", "json")
    assert (together.stdout, together.exit_code) == (alone.stdout, 1)
    assert alone.stdout.count('"rule"') == alone.stdout.count('"path"') - 10 == 10


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="the crash is planted before the fork")
def test_a_file_that_kills_its_process_costs_one_error(lint: Lint, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, parent = scan_module.scan_source, os.getpid()

    def deadly(path: str, source: str, rules: object) -> object:
        if path == "file06.py":
            assert os.getpid() != parent
            os._exit(9)
        return scan(path, source, rules)  # type: ignore[arg-type]

    monkeypatch.setattr(scan_module, "scan_source", deadly)
    monkeypatch.setattr(scan_files, "_MANY_BYTES", 500)
    result = lint("--jobs", "2", "--no-cache", "--output-format", "concise")
    lines = result.stdout.splitlines()
    assert [line for line in lines if "file06" in line] == ["file06.py:1:1: error: made the parser crash"]
    assert len(lines) == 20


def test_a_wrong_rule_in_a_process_is_a_usage_error(lint: Lint, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_files, "_MANY_BYTES", 500)
    result = lint("--jobs", "2", "--rule-path", "none")
    assert (result.stdout, result.exit_code) == ("", 2)
    assert result.stderr.startswith("Error: ")
