"""Static results are kept by content, and a cache that is broken is no cache."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE, Lint
from theria_lint.rules.loader import load_rules
from theria_lint.static import scan as scan_module


@pytest.fixture
def warm(lint: Lint, folder: Path) -> str:
    """What a first run printed about kernel.py."""
    (folder / "kernel.py").write_text(UNSAFE)
    return lint("--cache-dir", "cache").stdout


def _forbid_scanning(monkeypatch: pytest.MonkeyPatch) -> None:
    def scan(*_: object) -> None:
        raise AssertionError("scanned again")

    monkeypatch.setattr(scan_module, "scan_source", scan)


def test_a_second_run_scans_nothing(lint: Lint, warm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _forbid_scanning(monkeypatch)
    assert lint("--cache-dir", "cache").stdout == warm
    assert "scanned again" in lint("--no-cache").stdout


def test_the_path_is_not_part_of_what_is_kept(
    lint: Lint, folder: Path, warm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forbid_scanning(monkeypatch)
    (folder / "kernel.py").rename(folder / "moved.py")
    assert lint("--cache-dir", "cache").stdout == warm.replace("kernel.py", "moved.py")


def test_other_content_and_other_names_are_scanned(lint: Lint, folder: Path, warm: str) -> None:
    (folder / "kernel.py").write_text("\n" + UNSAFE)
    assert "kernel.py:7:20" in lint("--cache-dir", "cache").stdout
    assert lint("--cache-dir", "cache", "--detach-name", "torch.softmax").stdout != warm


def test_a_changed_rule_is_scanned_for(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (builtin,) = load_rules()["THL002"].folder.glob("rule.toml")
    (folder / "own").mkdir()
    rule = builtin.read_text().replace("THL002", "OWN001").replace('"detach"', '"own-detach"', 1)
    (folder / "own" / "rule.toml").write_text(rule)
    arguments = ("--rule-path", "own", "--cache-dir", "cache", "--select", "OWN", "--statistics")
    assert lint(*arguments).stdout == "     1  OWN001 own-detach: unconfirmed\n"
    (folder / "own" / "rule.toml").write_text(rule.replace('"own-detach"', '"other-name"', 1))
    assert lint(*arguments).stdout == "     1  OWN001 other-name: unconfirmed\n"


def test_nothing_but_rules_is_looked_at_among_rules(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (builtin,) = load_rules()["THL002"].folder.glob("rule.toml")
    (folder / "own" / "rule").mkdir(parents=True)
    (folder / "own" / "rule" / "rule.toml").write_text(builtin.read_text().replace("THL002", "OWN001"))
    for place in ("own/dangling", "own/rule/dangling"):
        (folder / place).symlink_to("nowhere")
    result = lint("--rule-path", "own", "--cache-dir", "cache", "--select", "OWN")
    assert (result.exit_code, result.stderr) == (1, "")


@pytest.mark.parametrize("junk", [b"", b"{", b"[1]", b"null", b'[{"rule": 1}]', b"\xff", b"[[]]"])
def test_a_broken_entry_reads_as_none(lint: Lint, folder: Path, warm: str, junk: bytes) -> None:
    entries = list((folder / "cache").rglob("*.json"))
    assert entries
    for entry in entries:
        entry.write_bytes(junk)
    assert lint("--cache-dir", "cache").stdout == warm


def test_a_place_that_cannot_be_written_does_no_harm(lint: Lint, folder: Path, warm: str) -> None:
    shutil.rmtree(folder / "cache")
    (folder / "cache").write_text("a file")
    assert lint("--cache-dir", "cache").stdout == warm


def test_without_a_cache_nothing_is_written(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    lint("--no-cache", "--cache-dir", "cache")
    assert not (folder / "cache").exists()


def test_entries_that_nobody_reads_are_dropped(lint: Lint, folder: Path, warm: str) -> None:
    month = time.time() - 40 * 24 * 3600
    old = [entry for entry in (folder / "cache").rglob("*") if entry.is_file()]
    for entry in old:
        os.utime(entry, (month, month))
    (folder / "kernel.py").write_text("\n" + UNSAFE)
    lint("--cache-dir", "cache")
    left = set((folder / "cache").rglob("*.json"))
    assert len(left) == 2  # the suspects and the targets of the file as it is
    assert left.isdisjoint(old)
