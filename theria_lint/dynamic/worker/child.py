"""A forked child: imports one variant of a file, then forks once more for each target in it."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

from theria_lint.dynamic.protocol import Job, Outcome, TargetRequest
from theria_lint.dynamic.worker import limits


def import_time(job: Job) -> float:
    """Seconds that importing the file may take: packages import more than the one file."""
    return max(60.0, job.timeout)


def serve(job: Job, pipe: int) -> NoReturn:
    """Answers a job on a pipe, one outcome a line, and exits. Never returns: the caller is the server's fork."""
    os.setsid()
    limits.die_with_parent()
    limits.keep_only(pipe)
    limits.limit_resources(job.memory, import_time(job))
    try:
        _serve(job, pipe)
    except BaseException as error:  # the module's own import may raise anything, SystemExit included
        for target in job.targets:
            _write(pipe, Outcome(job.id, target.symbol, reason=_import_reason(error)))
    finally:
        os._exit(0)


def _serve(job: Job, pipe: int) -> None:
    from theria_lint.dynamic.worker import importing

    importing.replace_sources(job.overrides)
    module = _in_time(lambda: importing.import_file(job.path), import_time(job))
    for target in job.targets:
        _run_forked(module, job, target, pipe)


def _in_time(action: Callable[[], ModuleType], seconds: float) -> ModuleType:
    """Runs the import under an alarm, so that a module that loops is told from one that is slow to probe."""

    def expire(signum: int, frame: object) -> NoReturn:
        raise TimeoutError(f"importing it took more than {seconds:.0f} s")

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return action()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _run_forked(module: ModuleType, job: Job, target: TargetRequest, pipe: int) -> None:
    """Probes a target in a child of its own, and answers for it if it cannot answer."""
    token = os.urandom(16).hex()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        limits.keep_only(writer)
        _probe(module, job, target, writer, token)
    os.close(writer)
    answer = _read_all(reader, time.monotonic() + job.timeout)
    os.close(reader)
    kill_group(pid)
    _, status = os.waitpid(pid, 0)
    _write(pipe, _genuine(answer, token) or Outcome(job.id, target.symbol, reason=_death_reason(status, job)))


def _genuine(answer: bytes, token: str) -> Outcome | None:
    """The outcome in what a child wrote, if it is one: code under test may write to any file it finds open."""
    for line in answer.split(b"\n"):
        if line.startswith(token.encode()):
            return Outcome.from_json(json.loads(line[len(token) :]))
    return None


def _probe(module: ModuleType, job: Job, target: TargetRequest, pipe: int, token: str) -> NoReturn:
    """The innermost child: everything the target does happens here."""
    me = os.getpid()
    os.setsid()
    limits.die_with_parent()
    try:
        from theria_lint.dynamic.worker import importing, probing

        limits.limit_resources(job.memory, job.timeout)
        limits.forbid_processes()
        found = importing.resolve(module, target.symbol)
        outcome = probing.run_target(
            found, target, job=job.id, device=job.device, watched=job.watched, budget=job.timeout / 2
        )
    except BaseException as error:
        outcome = Outcome(job.id, target.symbol, reason=_probe_reason(error, job))
    if os.getpid() == me:
        _write(pipe, outcome, token)
    os._exit(0)


def _write(pipe: int, outcome: Outcome, token: str = "") -> None:
    data = b"\n" * bool(token) + token.encode() + json.dumps(outcome.to_json()).encode() + b"\n"
    while data:
        data = data[os.write(pipe, data) :]


def _read_all(pipe: int, deadline: float) -> bytes:
    """Everything up to the end of the pipe or the deadline."""
    data = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(pipe, 1 << 16) if ready else b""
        if not chunk:
            return data
        data += chunk


def kill_group(pid: int) -> None:
    """Kills a child and the processes of its session."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _import_reason(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return f"it could not be imported: {package} is missing; install it in the environment of {sys.executable}"
    if isinstance(error, SystemExit):
        return "it could not be imported: it exits when it is imported"
    return f"it could not be imported: {_sentence(error)}"


def _probe_reason(error: BaseException, job: Job) -> str:
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"it needs more than the {job.memory >> 30} GiB of memory that a probe may take"
    if isinstance(error, SystemExit):
        return "it exits the process when it is called"
    return f"the probe could not run it: {_sentence(error)}"


def _death_reason(status: int, job: Job) -> str:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return f"it did not end within {job.timeout:.0f} s; give it more with --timeout"
    if os.WIFSIGNALED(status):
        return f"it ended its process with {signal.Signals(os.WTERMSIG(status)).name}"
    return f"it ended its process with exit code {os.waitstatus_to_exitcode(status)}"


def _sentence(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:240]}" if text else type(error).__name__
