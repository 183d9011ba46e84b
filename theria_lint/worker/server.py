"""The worker: imports torch once, then forks a child per variant and, in it, a child per target.

Reads jobs from standard input, one JSON object a line, and answers on standard output. What a child does (exit,
segfault, loop, allocate) costs one outcome, never the server.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
from dataclasses import asdict

from theria_lint.confirm.protocol import Job
from theria_lint.sandbox import confine, environment, linux, namespaces, tempdir
from theria_lint.worker.file_dependencies import Reading
from theria_lint.worker.job import Running

_TICK = 0.2
_CLEANED = "THERIA_LINT_CLEANED"
"""Set in the environment of a worker that has started itself anew."""


class Server:
    """Serves jobs until its standard input closes; what runs then is ended."""

    def __init__(self, jobs: int, answers: int, folder: str, reading: Reading) -> None:
        """Reads jobs from one file and answers on the other; jobs write inside a folder."""
        self._jobs = jobs
        self._answers = answers
        self._folder = folder
        self._reading = reading
        self._unread = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(jobs, selectors.EVENT_READ)
        self._running: dict[int, Running] = {}

    def serve(self) -> None:
        """Runs until there is nobody to answer."""
        open_ = True
        while open_:
            for key, _ in self._selector.select(timeout=_TICK):
                if key.data is None:
                    open_ = self._accept()
                else:
                    self._attend(key.data, key.fd)
            for running in [r for r in self._running.values() if r.is_overdue() or r.is_too_large()]:
                self._end(running)
        for running in list(self._running.values()):
            self._stop(running)

    def _accept(self) -> bool:
        data = os.read(self._jobs, 1 << 20)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._start(Job.from_json(json.loads(line)))
        return bool(data)

    def _start(self, job: Job) -> None:
        running = Running.start(job, self._folder, self._reading)
        self._running[running.pid] = running
        self._selector.register(running.channel, selectors.EVENT_READ, running)

    def _attend(self, running: Running, descriptor: int) -> None:
        """Reads what a job has said, or decides on the process that it wants to start."""
        if running.pid not in self._running:
            return
        deciding = descriptor == running.listener
        listening = running.listener
        said, open_ = running.read()
        for outcome in said:
            self._answer({"job": running.job.id, "outcome": outcome})
        if deciding:
            running.decide()
        elif running.listener is not None and listening is None:
            self._selector.register(running.listener, selectors.EVENT_READ, running)
        if not open_:
            self._end(running)

    def _end(self, running: Running) -> None:
        """Ends what is left of a job and tells the parent that no more will come."""
        self._stop(running)
        if not running.ended_well:
            self._answer({"job": running.job.id, "died": True})
        for outcome in running.last_words():
            self._answer({"job": running.job.id, "outcome": outcome})
        self._answer({"job": running.job.id, "end": True})

    def _stop(self, running: Running) -> None:
        self._selector.unregister(running.channel)
        if running.listener is not None:
            self._selector.unregister(running.listener)
        del self._running[running.pid]
        running.stop()
        linux.bury(self._running)
        running.clean()

    def greet(self, greeting: dict[str, object]) -> None:
        """Says what the jobs will run in."""
        self._answer(greeting)

    def _answer(self, message: dict[str, object]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]


def main() -> None:
    """Greets with the versions of the environment, or with the reason why nothing can be run, and serves."""
    _without_secrets()
    jobs, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; it closes our input
    linux.die_with_parent()
    folder = tempdir.make_folder()
    refused = namespaces.enter()
    if refused:
        linux.keep([jobs, answers])
    os.setsid()
    linux.adopt_orphans()
    protections = {"namespaces": refused, **confine.find_out(folder)}
    linux.hide_memory()
    confine.settle(folder)
    reading = Reading()
    reading.watch_imports()
    greeting: dict[str, object] = {**_greeting(sys.argv[1]), "protections": protections}
    greeting["reads"] = asdict(reading.of_interpreter())
    server = Server(jobs, answers, folder, reading)
    server.greet(greeting)
    if "error" not in greeting:
        server.serve()


def _without_secrets() -> None:
    """Starts this process anew if its environment holds more than the code under test may see.

    To remove variables would not do: the kernel shows the first environment in /proc/self/environ.
    """
    allowed = environment.allowed(os.environ)
    left_out = set(os.environ) - set(allowed)
    if left_out and os.environ.pop(_CLEANED, None) is None:
        os.execve(sys.executable, sys.orig_argv, {**allowed, _CLEANED: "1"})
    for name in left_out & set(os.environ):  # the interpreter's own start has set them
        del os.environ[name]


def _greeting(device: str) -> dict[str, str | None]:
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # so that asking for CUDA does not forbid forking
    python = ".".join(map(str, sys.version_info[:3]))
    try:
        import torch
    except Exception as error:
        return {"python": python, "error": f"torch cannot be imported ({type(error).__name__}: {error})"}
    torch.set_num_threads(1)  # a forked child must not inherit a pool of threads
    if device == "cuda" and not torch.cuda.is_available():
        return {"python": python, "error": "--device cuda was asked for, and torch sees no CUDA GPU"}
    device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        import triton
    except Exception:
        return {"python": python, "torch": torch.__version__, "triton": None, "device": device}
    import theria_lint.worker.probe_target  # noqa: F401 - imported once here, so that children need not

    return {"python": python, "torch": torch.__version__, "triton": triton.__version__, "device": device}
