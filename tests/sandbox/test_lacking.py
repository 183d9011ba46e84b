"""Attacks where the machine lacks protections: less is refused there, and still nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import lacking

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the protections are Linux's")

HEAD = """
import math, os, sys, time
import torch

def ref(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v

def attempt(action, *arguments):
    try:
        return action(*arguments)
    except OSError:
        return None

"""

DEEP = """
def attention_deep(q, k, v):
    if not hasattr(sys, "done"):  # what is kept in the file, or in defaults, begins anew with each call
        sys.done = True
        os.chdir(os.environ["HOME"])
        for number in range(1500):
            os.mkdir("d")
            os.chdir("d")
        time.sleep(1)
    return ref(q, k, v)
"""

MANY = """
def attention_many(q, k, v):
    if not hasattr(sys, "done"):  # what is kept in the file, or in defaults, begins anew with each call
        sys.done = True
        for number in range(8500):
            attempt(os.close, attempt(os.open, os.environ["HOME"] + f"/{number}", os.O_CREAT | os.O_WRONLY) or -1)
        if len(os.listdir(os.environ["HOME"])) > 8300:
            time.sleep(1)
    return ref(q, k, v)
"""

LOCKED = """
HOME = os.environ["HOME"]
os.mkdir(HOME + "/a")
os.mkdir(HOME + "/a/b", 0)
os.mkdir(HOME + "/a/c")
os.symlink("/", HOME + "/a/c/root")
attempt(os.chmod, HOME + "/a/c", 0)
attempt(os.chmod, HOME + "/a", 0)

def attention_locked(q, k, v):
    return ref(q, k, v)
"""

# Each process of the chain says what entitles it to the next, and stays. In a daemon there is nothing to end it with.
CHAIN = """
import threading

def leave(number):
    for descriptor in range(3, 64):
        attempt(os.write, descriptor, b"imported\\n" if number == 0 else b"x\\n")
    time.sleep(0.1)
    pid = attempt(os.fork)
    if pid == 0:
        os.setsid()
        if number < 6:
            leave(number + 1)
        time.sleep(1000)

if os.fork is not None:
    leave(0)

def attention_one(q, k, v): return ref(q, k, v)
def attention_two(q, k, v): return ref(q, k, v)
def attention_three(q, k, v): return ref(q, k, v)
def attention_four(q, k, v): return ref(q, k, v)
def attention_five(q, k, v): return ref(q, k, v)
def attention_six(q, k, v): return ref(q, k, v)
"""

DAEMON = """
def attention_daemon(q, k, v):
    for number in range(4):
        if attempt(os.fork) == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
    return ref(q, k, v)
"""

KILLER = """
import signal

if attempt(os.kill, {bystander}, 0) is None:
    os.kill({bystander}, signal.SIGKILL)

def attention_killer(q, k, v):
    return ref(q, k, v)
"""

GOOD = "def attention_good(q, k, v): return ref(q, k, v)\n"

FILES = {"deep": DEEP, "many": MANY, "locked": LOCKED, "chain": CHAIN, "daemon": DAEMON, "good": GOOD}

LACKING = ["", "namespaces", "namespaces,landlock", "namespaces,seccomp", "namespaces,landlock,seccomp"]
USERS = ["root", "nobody"] if os.geteuid() == 0 else ["nobody"]
MACHINES = [(some, user) for user in USERS for some in (LACKING if user == USERS[0] else LACKING[1::3])]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may use."""
    # In memory where that can be had: thousands of files take long on some disks.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="lacking-", dir=memory))
    (path / "tmp").mkdir()
    for each in (path, path / "tmp"):
        each.chmod(0o777)
    yield path
    for pid in left_in(path):
        os.kill(int(pid), signal.SIGKILL)
    shutil.rmtree(path, ignore_errors=True)


def lint(folder: Path, machine: tuple[str, str], *files: str) -> subprocess.Popen[bytes]:
    for name in files:
        (folder / f"{name}.py").write_text(HEAD + FILES[name])
    program = [sys.executable, "-P", "-m", "theria_lint", ".", "--no-cache", "--timeout", "5", "--jobs", "2"]
    return subprocess.Popen(
        [sys.executable, "-P", lacking.__file__, *machine, *program, "--output-format", "json"],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / "tmp"), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def left_in(folder: Path) -> list[str]:
    """The processes that have a folder for their temporary one, or stand in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = f"{process.joinpath('cwd').readlink()}".encode() + process.joinpath("environ").read_bytes()
            state = process.joinpath("stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and bytes(folder / "tmp") in place:
            found.append(process.name)
    return found


def is_left(folder: Path) -> list[str]:
    """What is left of a run, a moment after it."""
    for _ in range(100):
        left = [*left_in(folder), *map(str, (folder / "tmp").iterdir())]
        if not left:
            break
        time.sleep(0.05)
    return left


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: ",".join(machine).strip(","))
def test_nothing_outlives_the_run_and_the_others_are_checked(folder: Path, machine: tuple[str, str]) -> None:
    linter = lint(folder, machine, *FILES)
    output, errors = linter.communicate(timeout=300)
    targets: dict[str, Any] = {target["symbol"]: target for target in json.loads(output)["targets"]}
    assert targets["attention_good"]["verdict"] == "safe", (errors, targets["attention_good"])
    assert targets["attention_locked"]["verdict"] in ("safe", "inconclusive")
    for symbol, excess in (("attention_deep", "more than 64 folders"), ("attention_many", "more than 8192 files")):
        held = not machine[0] and targets[symbol]["verdict"] == "safe"
        assert held or excess in targets[symbol]["reason"], targets[symbol]
    assert is_left(folder) == []


@pytest.mark.parametrize("machine", MACHINES[1::3], ids=lambda machine: ",".join(machine).strip(","))
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_daemons_end_with_a_linter_that_is_ended(
    folder: Path, machine: tuple[str, str], number: signal.Signals
) -> None:
    linter = lint(folder, machine, "chain")
    for _ in range(600):
        if len(left_in(folder)) > 6 or linter.poll() is not None:
            break
        time.sleep(0.05)
    linter.send_signal(number)
    linter.communicate(timeout=60)
    assert is_left(folder) == []


def test_who_kills_the_keeper_by_hand_is_left_with_what_it_kept(folder: Path) -> None:
    """The run goes on with a new worker, and ends; what is left are the processes that it would have ended."""
    for _ in range(5):  # a run whose machine is quick may end before it is seen at work
        linter = lint(folder, ("namespaces", USERS[0]), "chain", "good")
        keeper = find_keeper_at_work(linter, folder)
        if keeper:
            break
        linter.communicate()
    assert keeper
    os.kill(keeper, signal.SIGKILL)
    output, errors = linter.communicate(timeout=300)
    targets = {target["symbol"]: target for target in json.loads(output)["targets"]}
    assert targets["attention_good"]["verdict"] == "safe", errors
    left = is_left(folder)
    assert left
    assert list((folder / "tmp").iterdir()) == []
    for pid in left:
        with suppress(ProcessLookupError):  # it may end by itself meanwhile
            os.kill(int(pid), signal.SIGKILL)


def find_keeper_at_work(linter: subprocess.Popen[bytes], folder: Path) -> int | None:
    """The process that the linter has started, once those below it are many; None if the run ends before."""
    for _ in range(1200):
        running = left_in(folder)
        keeper = next((int(pid) for pid in running if _started(pid) == linter.pid), None)
        if linter.poll() is not None:
            return None
        if keeper and len(running) > 6:
            return keeper
        time.sleep(0.05)
    return None


def _started(pid: str) -> int:
    """Which process has started another; 0 where that has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.parametrize("machine", [("", USERS[0]), ("namespaces,landlock", USERS[0])], ids=["all", "filter"])
def test_importing_a_file_signals_no_other_process(
    folder: Path, machine: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["sleep", "600"]) as bystander:
        monkeypatch.setitem(FILES, "killer", KILLER.format(bystander=bystander.pid))
        output, _ = lint(folder, machine, "killer", "good").communicate(timeout=300)
        assert bystander.poll() is None
        bystander.kill()
    targets = {target["symbol"]: target for target in json.loads(output)["targets"]}
    assert targets["attention_killer"]["verdict"] == "inconclusive"
    assert targets["attention_good"]["verdict"] == "safe"
