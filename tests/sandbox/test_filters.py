"""Which system calls the filter refuses: asked of the filter itself, and of the kernel."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from theria_lint.sandbox import linux, seccomp
from theria_lint.sandbox.seccomp import ProcessPolicy

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in seccomp._AUDIT, reason="no filter is known"
)

MOUNTS = ("mount", "umount2", "pivot_root", "move_mount", "fsopen", "fsmount", "fsconfig", "fspick", "open_tree")
NAMESPACES = ("unshare", "setns", "mount_setattr", "open_tree_attr", "chroot")
NEW = {"mounts": 0x20000, "cgroups": 0x2000000, "names": 0x4000000, "ipc": 0x8000000}
NEW |= {"users": 0x10000000, "processes": 0x20000000, "network": 0x40000000}
FILTERS = list(itertools.product(ProcessPolicy, (False, True)))


def answer(code: list[seccomp.Instruction], name: str, *arguments: int) -> int:
    """What the kernel would answer to a call under a filter: the same small machine in Python."""
    data = {0: seccomp._find_call_number(name), 4: seccomp._AUDIT[platform.machine()]}
    data |= {16 + 8 * index: argument for index, argument in enumerate(arguments)}
    program = list(seccomp._frame_filter(code, seccomp._AUDIT[platform.machine()]))
    held, at = 0, 0
    while True:
        operation, yes, no, operand = program[at]
        at += 1
        if operation == seccomp._ANSWER:
            return operand
        if operation == seccomp._LOAD:
            held = data.get(operand, 0) or 0
        elif operation == seccomp._AND:
            held &= operand
        else:
            tests = {
                seccomp._EQUAL: held == operand,
                seccomp._AT_LEAST: held >= operand,
                seccomp._ANY_BIT: bool(held & operand),
            }
            at += yes if tests[operation] else no


@pytest.mark.parametrize(("processes", "programs"), FILTERS)
@pytest.mark.parametrize("name", [*MOUNTS, *NAMESPACES])
def test_no_way_to_a_mount_or_a_namespace(name: str, processes: ProcessPolicy, programs: bool) -> None:
    code = seccomp.make_import_filter(processes, programs=programs)
    assert answer(code, name) == seccomp._REFUSE | errno.EPERM


@pytest.mark.parametrize(("processes", "programs"), FILTERS)
@pytest.mark.parametrize("flag", NEW)
def test_a_new_process_is_in_the_namespaces_of_the_old(flag: str, processes: ProcessPolicy, programs: bool) -> None:
    code = seccomp.make_import_filter(processes, programs=programs)
    for beside in (0, 17, seccomp._CLONE_THREAD):
        assert answer(code, "clone", NEW[flag] | beside) == seccomp._REFUSE | errno.EPERM
    assert answer(code, "clone3") == seccomp._REFUSE | errno.ENOSYS


def test_a_thread_and_a_process_are_told_apart() -> None:
    code = seccomp.make_import_filter(ProcessPolicy.REFUSED, programs=False)
    assert answer(code, "clone", seccomp._CLONE_THREAD) == seccomp._ALLOW
    assert answer(code, "clone", 17) == seccomp._REFUSE | errno.EAGAIN
    assert answer(seccomp.make_import_filter(ProcessPolicy.ALLOWED, programs=False), "clone", 17) == seccomp._ALLOW


@pytest.mark.parametrize(("processes", "programs"), FILTERS)
def test_processors_are_chosen_for_oneself(processes: ProcessPolicy, programs: bool) -> None:
    code = seccomp.make_import_filter(processes, programs=programs)
    for name in ("prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"):
        assert answer(code, name, os.getpid()) == seccomp._REFUSE | errno.EPERM
        assert answer(code, name, 0) == seccomp._ALLOW


FILE_HARM = """
import ctypes, fcntl, os, signal, socket, struct, sys, time
from theria_lint.sandbox import linux, seccomp

def sends_signal(victim):
    near, far = socket.socketpair()
    fcntl.fcntl(near, fcntl.F_SETOWN, victim)
    fcntl.fcntl(near, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(near, fcntl.F_SETFL, os.O_ASYNC)
    far.send(b"x")

def sends_signal_by_device(victim):
    near, far = socket.socketpair()
    fcntl.ioctl(near, 0x8901, struct.pack("i", victim))

def holds_up(victim):
    fcntl.fcntl(os.open(sys.argv[2], os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)

def sets_flags(victim):
    fcntl.ioctl(os.open(sys.argv[2], os.O_RDONLY), 0x40086602, struct.pack("l", 0x40))

if sys.argv[3] == "filtered":
    linux.call_c_function("prctl", 38, 1, 0, 0, 0)
    seccomp.install_filter(seccomp.make_import_filter(seccomp.ProcessPolicy.ALLOWED, programs=False))
for harm in (sends_signal, sends_signal_by_device, holds_up, sets_flags):
    try:
        harm(int(sys.argv[1]))
        print(harm.__name__)
    except OSError:
        pass
"""


@pytest.mark.parametrize("filtered", [True, False])
def test_an_open_file_is_no_way_to_others(tmp_path: Path, filtered: bool) -> None:
    """Without the filter at least the signal is sent: what a file system knows of flags and leases differs."""
    (tmp_path / "file").touch()
    with subprocess.Popen(["sleep", "600"]) as victim:
        arguments = [str(victim.pid), str(tmp_path / "file"), "filtered" if filtered else "free"]
        done = subprocess.run([sys.executable, "-c", FILE_HARM, *arguments], capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        if filtered:
            assert (done.stdout, victim.poll()) == ("", None)
            victim.kill()
        else:
            assert "sends_signal\n" in done.stdout
            assert victim.wait(60) == -signal.SIGKILL


def test_the_kernel_refuses_them() -> None:
    """With a null pointer each fails; what passes the filter says that the address is bad, or that a power lacks."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        linux.call_c_function("prctl", 38, 1, 0, 0, 0)
        seccomp.install_filter(seccomp.make_import_filter(ProcessPolicy.ALLOWED, programs=False))
        refused = []
        libc = ctypes.CDLL(None, use_errno=True)
        calls = [(seccomp._find_call_number(name), 0) for name in (*MOUNTS, *NAMESPACES)]
        for number, argument in [*calls, *((seccomp._find_call_number("clone"), flag | 17) for flag in NEW.values())]:
            made = libc.syscall(ctypes.c_long(number or 0), ctypes.c_long(argument), *[ctypes.c_long(0)] * 4)
            if made == 0:
                os._exit(0)  # a process of its own
            refused.append(made < 0 and ctypes.get_errno() == errno.EPERM)
        os.write(writer, b"%d of %d" % (sum(refused), len(refused)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        assert answers.read() == b"21 of 21"
    os.waitpid(pid, 0)
