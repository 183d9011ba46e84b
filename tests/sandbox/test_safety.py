"""Attacks on the machine that the worker runs on: each fails, and the targets beside it keep their verdicts."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.confirming import confirm_files, target_of
from tests.support.kept_workers import end_kept_workers
from theria.verdicts import Verdict
from theria_lint.confirm.confirm import Confirmation
from theria_lint.confirm.worker_client import WorkerClient
from theria_lint.report.sentences import say

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the protections are Linux's")

COMMON = """
import ctypes, math, os, signal, socket, subprocess, sys, threading, time
import torch

def ref(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v

class AttackError(Exception):
    pass
"""

# Each raises OSError where the system refuses it.
REFUSED = """
def write_home():
    with open({home!r} + "/planted", "w") as file:
        file.write("x")

def read_key():
    open({home!r} + "/.ssh/id_ed25519").read()

def read_hidden_file_of_project():
    open({project!r} + "/.env").read()

def read_environment_of_linter():
    open("/proc/{parent}/environ", "rb").read()

def connect_internet():
    socket.create_connection(("127.0.0.1", {port}), timeout=1).close()

def connect_local():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect({unix!r})

def send_local():
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.sendto(b"x", {datagram!r})

def kill_bystander():
    os.kill({bystander}, signal.SIGKILL)

def trace_parent():
    if ctypes.CDLL(None, use_errno=True).ptrace(16, os.getppid(), 0, 0) < 0:
        raise PermissionError

def remove_file():
    os.remove({home!r} + "/.profile")

def open_terminal():
    os.open("/dev/tty", os.O_RDWR)

def share_memory():
    if ctypes.CDLL(None, use_errno=True).shmget({key}, 4096, 0o1600) < 0:
        raise PermissionError
"""

REFUSALS = tuple(line[4:-3] for line in REFUSED.splitlines() if line.startswith("def "))

ALL_REFUSED = """
def attention_refused(q, k, v):
    worked = []
    for attack in ({names}):
        try:
            attack()
        except OSError:
            continue
        worked.append(attack.__name__)
    if worked:
        raise AttackError(worked)
    return ref(q, k, v)
"""

DAMAGE = """
def attention_exit(q, k, v): os._exit(3)
def attention_segfault(q, k, v): ctypes.string_at(0)
def attention_abort(q, k, v): ctypes.CDLL(None).abort()
def attention_corrupt_heap(q, k, v):
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    block = libc.malloc(ctypes.c_size_t(64))
    ctypes.memset(block - 16, 255, 4096)
    libc.free(ctypes.c_void_p(block))
    libc.free(ctypes.c_void_p(block))
    return ref(q, k, v)
def attention_loop_in_c(q, k, v):
    import re
    re.match("(a+)+$", "a" * 60 + "b")
def attention_fork_bomb(q, k, v):
    while True:
        os.fork()
def attention_daemon(q, k, v):
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    return ref(q, k, v)
def attention_allocate(q, k, v):
    blocks = []
    while True:
        blocks.append(torch.empty(10**8))
def attention_allocate_shared(q, k, v):
    import mmap
    blocks = []
    while True:
        blocks.append(mmap.mmap(-1, 1 << 30))
def attention_kill_watcher(q, k, v):
    os.kill(os.getppid(), signal.SIGKILL)
    return ref(q, k, v)
def attention_fill_disk(q, k, v):
    # What is kept in the file, or in defaults, begins anew with each call.
    files = [] if hasattr(sys, "filled") else [os.environ["HOME"] + f"/{number}" for number in range(40)]
    block = b"x" * (8 << 20)
    for name in files:
        try:
            with open(name, "wb") as file:
                while True:
                    file.write(block)
        except OSError:
            continue
    if sum(os.stat(name).st_size for name in files) > 1 << 30:
        raise AttackError("it is full")
    for name in files:
        os.remove(name)
    sys.filled = True
    return ref(q, k, v)
def attention_close_output(q, k, v):
    for stream in (1, 2):
        try:
            os.close(stream)
        except OSError:
            pass
    return ref(q, k, v)
def attention_forge(q, k, v):
    for line in (b'imported', b'{"job": 1, "end": true}', b'{"job": 1, "symbol": "attention_good", "runs": [], '
                 b'"reason": "forged", "lines": {}, "notes": []}'):
        for number in range(100):
            try:
                os.write(number, b"\\n" + line + b"\\n")
            except OSError:
                pass
    return ref(q, k, v)
def attention_change_mode(q, k, v):
    os.chmod(HOME, 0o777)
    os.utime(HOME, (0, 0))
    return ref(q, k, v)
def attention_secret_variable(q, k, v):
    if "LINTED_TOKEN" in os.environ or b"LINTED_TOKEN" in open("/proc/self/environ", "rb").read():
        raise AttackError("read it")
    return ref(q, k, v)
def attention_writes_temporary_file(q, k, v):
    import tempfile
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
    return ref(q, k, v)
def attention_good(q, k, v):
    return ref(q, k, v)
"""

ENDED = {
    "attention_exit": "ended its process with exit code 3",
    "attention_segfault": "SIGSEGV",
    "attention_abort": "SIGABRT",
    "attention_corrupt_heap": "ended its process",
    "attention_loop_in_c": "did not end within",
    "attention_fork_bomb": "it starts a process, which a probe may not do",
    "attention_daemon": "it starts a process, which a probe may not do",
    "attention_allocate": "memory",
    "attention_allocate_shared": "memory",
    "attention_kill_watcher": "it signals another process, which a probe may not do",
}

HARMLESS = [
    line[4 : line.index("(")]
    for line in DAMAGE.splitlines()
    if line.startswith("def ") and line[4 : line.index("(")] not in {*ENDED, "attention_fill_disk"}
]

IMPORTS = {
    "fork_bomb": ("while True: os.fork()", "it starts a process"),
    "daemon": ("subprocess.Popen(['sleep', '1000'], start_new_session=True)", "it starts a process"),
    "socket": ("socket.create_connection(('127.0.0.1', 9))", "it uses the network"),
    "write": ("open({home!r} + '/planted', 'w')", "it writes outside its temporary folder"),
    "loop_in_c": ("import re; re.match('(a+)+$', 'a' * 60 + 'b')", "took more than"),
    "allocate": ("x = [torch.empty(10**8) for _ in range(10**9)]", "memory"),
    "exit": ("sys.exit(0)", "it exits when it is imported"),
    "hard_exit": ("os._exit(0)", "exit code 0"),
    "segfault": ("ctypes.string_at(0)", "SIGSEGV"),
    "close_everything": ("os.closerange(0, 4096)", "ended its process"),
    "pretend": (
        "[os.write(n, b'imported\\n') for n in range(3, 20) if os.path.exists(f'/proc/self/fd/{{n}}')]\n"
        "while True: os.fork()",
        "",
    ),
}


@dataclass
class Scene:
    """What there is to attack, and what the linter said of the attackers."""

    folder: Path
    home: Path
    found: Confirmation
    processes: set[str]


def run_of(found: Confirmation, symbol: str) -> tuple[Verdict, str]:
    target = target_of(found, symbol)
    return target.verdict, say(target.reason)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("safety")
    home, project = folder / "home", folder / "project"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_text("key")
    (home / ".profile").write_text("profile")
    home.chmod(0o700)
    project.mkdir()
    (project / "pyproject.toml").touch()
    (project / ".env").write_text("password")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
        subprocess.Popen(["sleep", "600"]) as bystander,
        pytest.MonkeyPatch.context() as patch,
    ):
        unix.bind(str(folder / "s"))
        unix.listen()
        datagram.bind(str(folder / "d"))
        patch.setenv("TMPDIR", str(folder / "tmp"))
        patch.setenv("LINTED_TOKEN", "secret")
        (folder / "tmp").mkdir()
        names = {
            "home": str(home),
            "project": str(project),
            "parent": os.getpid(),
            "port": server.getsockname()[1],
            "unix": str(folder / "s"),
            "datagram": str(folder / "d"),
            "bystander": bystander.pid,
            "key": os.getpid(),
        }
        found = _lint(project, names)
        end_kept_workers()
        _until(lambda: not _processes(folder))
        yield Scene(folder, home, found, _processes(folder))
        assert bystander.poll() is None
        bystander.kill()


def _lint(project: Path, names: dict[str, object]) -> Confirmation:
    files = {
        "refused": COMMON + REFUSED.format(**names) + ALL_REFUSED.format(names=", ".join(REFUSALS)),
        "damage": COMMON + f"HOME = {names['home']!r}\n" + DAMAGE,
    }
    for name, (attack, _) in IMPORTS.items():
        good = f"\ndef attention_import_{name}(q, k, v):\n    return ref(q, k, v)\n"
        files[f"import_{name}"] = COMMON + attack.format(**names) + good
    for name, source in files.items():
        (project / f"{name}.py").write_text(source)
    paths = [project / f"{name}.py" for name in files]
    return confirm_files(paths, timeout=3.0, jobs=3, memory=1 << 30, device="cpu")


def _processes(folder: Path) -> set[str]:
    """The processes whose environment or working directory names a folder."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                str(folder) in str((process / "cwd").readlink())
                or str(folder).encode() in (process / "environ").read_bytes()
            ):
                found.add(process.name)
        except OSError:
            continue
    return found - {str(os.getpid())}


def test_the_system_refuses(scene: Scene) -> None:
    assert len(REFUSALS) == 12
    assert run_of(scene.found, "attention_refused")[0] is Verdict.SAFE, run_of(scene.found, "attention_refused")


@pytest.mark.parametrize(
    "name", ["write_home", "read_key", "read_hidden_file_of_project", "connect_internet", "send_local"]
)
def test_the_same_attack_works_without_protection(scene: Scene, name: str) -> None:
    path = scene.folder / "project" / "refused.py"
    spec = importlib.util.spec_from_file_location("refused", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    getattr(module, name)()
    (scene.home / "planted").unlink(missing_ok=True)


@pytest.mark.parametrize("symbol", ENDED)
def test_damage_stays_in_the_target(scene: Scene, symbol: str) -> None:
    verdict, reason = run_of(scene.found, symbol)
    assert verdict is Verdict.INCONCLUSIVE
    assert ENDED[symbol] in reason


def test_the_disk_is_not_filled(scene: Scene) -> None:
    verdict, reason = run_of(scene.found, "attention_fill_disk")
    slow = verdict is Verdict.INCONCLUSIVE and reason.startswith("out of time")  # each call writes as much as it may
    assert verdict is Verdict.SAFE or slow or reason == "its file writes too much: more than 512 MiB"


@pytest.mark.parametrize("symbol", HARMLESS)
def test_the_others_get_their_verdicts(scene: Scene, symbol: str) -> None:
    assert run_of(scene.found, symbol)[0] is Verdict.SAFE, run_of(scene.found, symbol)


@pytest.mark.parametrize("name", IMPORTS)
def test_importing_is_enclosed_too(scene: Scene, name: str) -> None:
    verdict, reason = run_of(scene.found, f"attention_import_{name}")
    assert verdict is Verdict.INCONCLUSIVE
    assert IMPORTS[name][1] in reason


def test_nothing_is_left_behind(scene: Scene) -> None:
    assert scene.processes == set()
    assert not (scene.home / "planted").exists()
    assert (scene.home / ".profile").exists()
    assert stat.S_IMODE(scene.home.stat().st_mode) == 0o700
    assert _until(lambda: not list((scene.folder / "tmp").iterdir()))


ENDLESS = (
    COMMON
    + """
def attention_endless(q, k, v):
    open(os.environ["HOME"] + "/running", "w").close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pass
"""
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_everything_ends_with_the_linter(tmp_path: Path, number: signal.Signals) -> None:
    path, temporary = tmp_path / "kernel.py", tmp_path / "tmp"
    path.write_text(ENDLESS)
    temporary.mkdir()
    linter = subprocess.Popen(
        [sys.executable, "-m", "theria_lint", str(path), "--no-cache", "--timeout", "100"],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert _until(lambda: _is_busy(temporary), 30)
    linter.send_signal(number)
    linter.wait(5)
    assert _until(lambda: not _processes(temporary), 3)
    assert _until(lambda: not list(temporary.iterdir()), 3)


def _is_busy(folder: Path) -> bool:
    """Whether a probe has been using the processor for a while."""
    return any(
        _seconds(process) > 0.5 and "/theria-lint-" in str(Path(f"/proc/{process}/cwd").readlink())
        for process in _processes(folder)
    )


def _seconds(process: str) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _until(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def test_the_worker_says_what_protects() -> None:
    with WorkerClient(sys.executable, "cpu", 1) as worker:
        worker.wait_for_greeting()
        assert set(worker.greeting.protections) == {"namespaces", "privileges", "files", "processes", "calls", "disk"}
        assert all(why is None or len(say(why)) > 10 for why in worker.greeting.protections.values())
