"""On a terminal: what runs is shown, and Ctrl-C ends it at once with a report of what is known."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import theria_lint
from theria_lint.report import progress_line
from theria_lint.report.progress_line import ProgressLine

ENDLESS = """
import torch

def quick_attention(q, k, v):
    return torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1).detach() @ v

def endless_attention(q, k, v):
    p = torch.softmax(q @ k.transpose(-2, -1), dim=-1)
    while True:
        p = p.detach()
    return p @ v
"""


class Terminal:
    """The linter on a pseudo-terminal of its own, with Ctrl-C."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        root = str(Path(theria_lint.__file__).parents[1])
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "theria_lint", "--isolated", "--no-cache", *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": root, "TERM": "xterm"},
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    def wait_for(self, text: str, seconds: float = 120.0) -> None:
        """Reads standard error until a text has been shown."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} was not shown: {self.shown!r}"
            self.shown += os.read(self._ours, 4096).decode()

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to every process of the foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def finish(self) -> tuple[str, int]:
        """Standard output and the exit code."""
        out, _ = self.process.communicate(timeout=60)
        return out.decode(), self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    (tmp_path / "kernel.py").write_text(ENDLESS)
    started = Terminal(tmp_path, "--jobs", "1", "--timeout", "600", "--device", "cpu", "kernel.py")
    yield started
    started.close()


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and theirs."""
    parents = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found - {pid}
        found |= more


def test_ctrl_c_ends_everything_and_tells_what_is_known(terminal: Terminal) -> None:
    terminal.wait_for("1/2 endless_attention")
    running = descendants(terminal.process.pid)
    assert running
    began = time.monotonic()
    terminal.interrupt()
    report, code = terminal.finish()
    assert time.monotonic() - began < 30
    assert code == 130
    assert "quick_attention: hard_structural" in report
    assert "endless_attention: inconclusive" in report
    assert report.count("interrupted") >= 2
    assert report.rstrip().splitlines()[-1].endswith("; interrupted before all had run.")
    assert "2 suspects: 2 unconfirmed" in report
    deadline = time.monotonic() + 10
    while (left := [pid for pid in running if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def test_ctrl_c_while_the_worker_starts(terminal: Terminal) -> None:
    terminal.wait_for("starting Python")
    terminal.interrupt()
    report, code = terminal.finish()
    assert code == 130
    assert "quick_attention: inconclusive" in report


def test_what_runs_is_shown_and_taken_away(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(ENDLESS.partition("def endless")[0])
    terminal = Terminal(tmp_path, "--device", "cpu", "kernel.py")
    terminal.wait_for("[....................] 0/1 starting Python and PyTorch")
    terminal.wait_for("[....................] 0/1 quick_attention")
    terminal.finish()
    terminal.wait_for(" \r")
    assert "\n" not in terminal.shown
    terminal.close()


def test_the_line_fits_the_terminal_and_is_wiped() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 45, 0, 0))
    shown = ""
    with os.fdopen(theirs, "w") as stream:
        with ProgressLine(stream) as line:
            line("a_name_that_is_longer_than_the_terminal_is_wide", 5, 10)
            line("short", 10, 10)
        while shown.count("\r") < 4:
            shown += os.read(ours, 4096).decode()
    os.close(ours)
    first, second, wiped, last = shown.split("\r")[1:]
    assert first == "  0 s [##########..........] 5/10 a_name_..."
    assert second.rstrip() == "  0 s [####################] 10/10 short"
    assert len(second) == len(first) == 44
    assert wiped.strip() == last == ""


def test_the_seconds_go_on_while_one_thing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_line, "_TICK", 0.01)
    seconds = iter(range(1_000_000))
    monkeypatch.setattr(progress_line, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    stream = io.StringIO()
    with ProgressLine(stream) as line:
        line("slow_attention", 0, 1)
        while "  3 s" not in stream.getvalue():
            time.sleep(0.01)
    shown = stream.getvalue()
    assert re.findall(r"(\d+) s \[", shown)[:3] == ["1", "2", "3"]
    assert shown.endswith("\r")
