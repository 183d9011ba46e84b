"""What the worker of a cluster does: run jobs in the sandboxed process that runs them on the linter's own machine.

Requests and answers are JSON: `ClusterExecutor` asks, from another machine. A job is refused where the linter, torch or
the files that were linted are not what they are there.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import theria_lint
from theria_lint.confirm.outcome_cache import SnapshotChecker
from theria_lint.confirm.protocol import FileDependencies, Job, Outcome, WorkerError, digest_text
from theria_lint.confirm.worker_client import WorkerClient
from theria_lint.errors import ReadError
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.sandbox.environment import select_harmless_variables
from theria_lint.sources.source_text import decode_source, read_bytes

_IDLE_SECONDS = 60.0
"""How long a process that has imported torch waits for the next job."""

_ASK_TORCH = "from importlib.metadata import version; print(version('torch'))"

_files = SnapshotChecker()

Installation = dict[str, str]
"""The versions that decide what a job gives, by name."""


def describe_installation(python: str) -> Installation:
    """The versions of the linter, with a digest of its code, and of the torch that an interpreter has."""
    return {"theria-lint": f"{theria_lint.__version__} ({_digest_code()})", "torch": _find_torch_version(python)}


@lru_cache(1)
def _digest_code() -> str:
    found = blake2b(digest_size=4)
    root = os.path.dirname(os.path.dirname(os.path.abspath(theria_lint.__file__)))
    for package in ("theria", "theria_lint"):
        for parent, folders, names in os.walk(os.path.join(root, package)):
            folders.sort()
            for name in sorted(names):
                if name.endswith(".py"):
                    found.update(f"{name} {_files.digest_file(os.path.join(parent, name))}\n".encode())
    return found.hexdigest()


@lru_cache(8)
def _find_torch_version(python: str) -> str:
    """The version of the torch that an interpreter has, which is not imported for that; none if there is none."""
    try:
        done = subprocess.run(
            [python, "-P", "-c", _ASK_TORCH],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=select_harmless_variables(os.environ),
        )
    except OSError:
        return "none"
    return done.stdout.strip() or "none"


def run_on_worker(request: str) -> str:
    """Answer a request: run its jobs, or say why not. What is said of each file that was read is its digest here."""
    asked = json.loads(request)
    refusal = _find_difference(asked["installation"], asked["python"])
    if refusal is None:
        jobs = [Job.from_json(job) for job in asked["jobs"]]
        try:
            return json.dumps(_run_jobs(jobs, asked["python"], asked["device"]))
        except WorkerError as error:
            refusal = error.reason
    return json.dumps({"worker": socket.gethostname(), "refusal": refusal.to_json()})


def _run_jobs(jobs: list[Job], python: str, device: str) -> dict[str, Any]:
    outcomes: list[Outcome] = []
    with _borrow_worker(python, device, max(1, min(len(jobs), _count_processors()))) as worker:
        fitting: list[Job] = []
        for job in jobs:
            other = _find_other_file(job)
            fitting += [] if other else [job]
            outcomes += [Outcome(job.id, target.symbol, reason=other) for target in job.targets if other]
        for found in worker.run_jobs(fitting, lambda *_: None).values():
            outcomes += found.values()
        # Of what the interpreter is made is asked once, for it is long.
        greeting = replace(worker.greeting, reads=FileDependencies()) if jobs else worker.greeting
    reads = {path for outcome in outcomes if outcome.reads for path in outcome.reads.files}
    return {
        "worker": socket.gethostname(),
        "greeting": greeting.to_json(),
        "outcomes": [[outcome.job, json.dumps(outcome.to_json())] for outcome in outcomes],
        "digests": {path: _files.digest_file(path) for path in sorted(reads)},
    }


def _find_difference(wanted: Installation, python: str) -> Reason | None:
    """The first version that is another one here."""
    for what, there in describe_installation(python).items():
        if wanted.get(what) != there:
            told = {"worker": socket.gethostname(), "what": what, "there": there, "here": str(wanted.get(what))}
            return Reason(ReasonCode.WORKER_DIFFERS, told)
    return None


def _find_other_file(job: Job) -> Reason | None:
    """The first file that is not here as it was linted."""
    for path, digest in job.digests.items():
        try:
            same = digest_text(decode_source(read_bytes(path))) == digest
        except ReadError:
            same = False
        if not same:
            return Reason(ReasonCode.FILE_DIFFERS, {"worker": socket.gethostname(), "file": path})
    return None


_Key = tuple[str, str, int]
_idle: dict[_Key, list[tuple[WorkerClient, threading.Timer]]] = {}
_lock = threading.Lock()


@contextmanager
def _borrow_worker(python: str, device: str, width: int) -> Iterator[WorkerClient]:
    """A process that waits for so many jobs at a time, or a new one; it waits on, for to import torch takes long."""
    key = python, device, width
    with _lock:
        worker, timer = _idle[key].pop() if _idle.get(key) else (None, None)
    if worker is None or timer is None:
        worker = WorkerClient(python, device, width)
        worker.wait_for_greeting()
    else:
        timer.cancel()
    try:
        yield worker
    except BaseException:
        worker.close()
        raise
    timer = threading.Timer(_IDLE_SECONDS, _retire, (key, worker))
    timer.daemon = True
    with _lock:
        _idle.setdefault(key, []).append((worker, timer))
    timer.start()


def _count_processors() -> int:
    """How many this process may use: a cluster gives it some of its machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _retire(key: _Key, worker: WorkerClient) -> None:
    """End a process that nobody has wanted for a while."""
    with _lock:
        kept = [(other, timer) for other, timer in _idle[key] if other is not worker]
        wanted = len(kept) == len(_idle[key])
        _idle[key] = kept
    if not wanted:
        worker.close()
