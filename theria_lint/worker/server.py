"""Serve jobs: import torch once, fork a process per variant and, from that, a process per target.

Read jobs from standard input, one JSON object a line, and answer on standard output. What a child does (exit,
segfault, loop, allocate) costs one outcome, never the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
from dataclasses import asdict
from functools import partial

from theria_lint.confirm.protocol import Job
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.sandbox import confine, environment, linux, namespaces, tempdir
from theria_lint.worker import visible_gpus
from theria_lint.worker.failure_messages import describe_error
from theria_lint.worker.file_dependencies import FileDependencyTracker
from theria_lint.worker.import_process import serve_job
from theria_lint.worker.job import RunningJob
from theria_lint.worker.kernel_cache import unpack_kernels
from theria_lint.worker.kernel_compiler import KernelCompiler

_TICK = 0.2
_SLOW_MODULE = "torch._dynamo"
"""What checkpoints, compiled functions and many packages import from PyTorch, in about the time that PyTorch takes."""
_CLEANED_VARIABLE = "THERIA_LINT_CLEANED"
"""Set in the environment of a worker that has started itself anew."""


class WorkerServer:
    """Serves jobs until its standard input closes; what runs then is ended."""

    def __init__(self, jobs: int, answers: int, folder: str, tracker: FileDependencyTracker) -> None:
        """Read jobs from one file and answer on the other; jobs write inside a folder."""
        self._jobs = jobs
        self._answers = answers
        self._folder = folder
        self._tracker = tracker
        self._unread = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(jobs, selectors.EVENT_READ)
        self._running: dict[int, RunningJob] = {}
        self._kernels: dict[str, bytes] | None = None
        self._compiler: KernelCompiler | None = None
        self._slow_module = _locate_slow_module()
        self._wants_slow_module = False

    def serve_jobs(self) -> None:
        """Run until there is nobody to answer."""
        open_ = True
        while open_:
            for key, _ in self._selector.select(timeout=_TICK):
                if key.data is None:
                    open_ = self._accept_messages()
                elif isinstance(key.data, KernelCompiler):
                    self._take_compiled_kernels(key.data)
                else:
                    self._handle_job_event(key.data, key.fd)
            for running_job in [r for r in self._running.values() if r.is_overdue() or r.is_too_large()]:
                self._end_job(running_job)
        for running_job in list(self._running.values()):
            self._stop_job(running_job)

    def _accept_messages(self) -> bool:
        data = os.read(self._jobs, 1 << 20)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "kernels" in message:
                self._kernels = unpack_kernels(message["kernels"])
            else:
                self._start_job(Job.from_json(message))
        return bool(data)

    def _start_job(self, job: Job) -> None:
        if job.device != "cpu" and self._kernels is None and self._compiler is None:
            self._compiler = KernelCompiler(os.path.join(self._folder, "kernels"))
            self._selector.register(self._compiler.pipe, selectors.EVENT_READ, self._compiler)
        self._import_slow_module()
        running_job = RunningJob.start_child(job, self._folder, self._tracker, serve_job, self._kernels or {})
        self._running[running_job.pid] = running_job
        self._selector.register(running_job.channel, selectors.EVENT_READ, running_job)

    def _import_slow_module(self) -> None:
        """Import what takes seconds for all jobs that start from now on, if one has imported it."""
        if self._wants_slow_module:
            self._slow_module, self._wants_slow_module = None, False
            with contextlib.suppress(Exception):  # what raises here raises in the job that wants it
                self._tracker.import_for_children(_SLOW_MODULE)

    def _take_compiled_kernels(self, compiler: KernelCompiler) -> None:
        """Give the jobs that start from now on what has been compiled, and have the parent keep it."""
        packed = compiler.read_packed()
        if packed is not None:
            self._selector.unregister(compiler.pipe)
            compiler.end()
            self._compiler = None
            self._kernels = unpack_kernels(packed)
            self._send_message({"kernels": packed if self._kernels else ""})

    def _handle_job_event(self, running_job: RunningJob, descriptor: int) -> None:
        """Read what a job has said, or decide on the process that it wants to start."""
        if running_job.pid not in self._running:
            return
        deciding = descriptor == running_job.listener
        listening = running_job.listener
        said, open_ = running_job.read_outcomes()
        for outcome in said:
            self._wants_slow_module |= self._slow_module is not None and self._slow_module in outcome
            self._send_message({"job": running_job.job.id, "outcome": outcome})
        if deciding:
            running_job.answer_fork_request()
        elif running_job.listener is not None and listening is None:
            self._selector.register(running_job.listener, selectors.EVENT_READ, running_job)
        if not open_:
            self._end_job(running_job)

    def _end_job(self, running_job: RunningJob) -> None:
        """End what is left of a job and tell the parent that no more will come."""
        self._stop_job(running_job)
        if not running_job.ended_well:
            self._send_message({"job": running_job.job.id, "died": True})
        for outcome in running_job.make_final_outcomes():
            self._send_message({"job": running_job.job.id, "outcome": outcome})
        self._send_message({"job": running_job.job.id, "end": True})

    def _stop_job(self, running_job: RunningJob) -> None:
        self._selector.unregister(running_job.channel)
        if running_job.listener is not None:
            self._selector.unregister(running_job.listener)
        del self._running[running_job.pid]
        running_job.stop_child()
        linux.bury([*self._running, *([self._compiler.pid] if self._compiler else [])])
        running_job.remove_folder()

    def send_greeting(self, greeting: dict[str, object]) -> None:
        """Say what the jobs will run in."""
        self._send_message(greeting)

    def _send_message(self, message: dict[str, object]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]


def _locate_slow_module() -> str | None:
    """The folder of that module, as outcomes have it among what was read."""
    torch = sys.modules.get("torch")
    found = os.path.join(os.path.dirname(torch.__file__ or ""), *_SLOW_MODULE.split(".")[1:]) if torch else ""
    return json.dumps(found)[1:-1] or None


def main() -> None:
    """Greet with the versions of the environment, or with the reason why nothing can be run, and serve."""
    _restart_without_secrets()
    jobs, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; it closes our input
    linux.die_with_parent()
    folder = tempdir.make_folder()
    refused = namespaces.enter_namespaces()
    if refused:
        linux.keep([jobs, answers])
    os.setsid()
    linux.adopt_orphans()
    protections = {"namespaces": refused, **confine.find_protections(folder)}
    told = {name: why.to_json() if why else None for name, why in protections.items()}
    linux.hide_memory()
    confine.settle_in_folder(folder)
    tracker = FileDependencyTracker()
    tracker.watch_imports()
    greeting: dict[str, object] = {**_make_greeting(sys.argv[1]), "protections": told}
    if "error" not in greeting:
        import theria_lint.worker.probe_target  # noqa: F401 - imported once here, so that children need not
    greeting["reads"] = asdict(tracker.list_interpreter_reads())
    server = WorkerServer(jobs, answers, folder, tracker)
    server.send_greeting(greeting)
    if "error" not in greeting:
        server.serve_jobs()


def _restart_without_secrets() -> None:
    """Start this process anew if its environment holds more than the code under test may see.

    To remove variables would not do: the kernel shows the first environment in /proc/self/environ.
    """
    allowed = environment.select_harmless_variables(os.environ)
    left_out = set(os.environ) - set(allowed)
    if left_out and os.environ.pop(_CLEANED_VARIABLE, None) is None:
        os.execve(sys.executable, sys.orig_argv, {**allowed, _CLEANED_VARIABLE: "1"})
    for name in left_out & set(os.environ):  # the interpreter's own start has set them
        del os.environ[name]


def _make_greeting(device: str) -> dict[str, object]:
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # so that asking for CUDA does not forbid forking
    python = ".".join(map(str, sys.version_info[:3]))
    try:
        import torch
    except Exception as error:
        return {"error": Reason(ReasonCode.TORCH_NOT_IMPORTED, describe_error(error)).to_json()}
    torch.set_num_threads(1)  # a forked child must not inherit a pool of threads
    # Nor leave it to the threads of its first backward to renew that pool: of several, one may find none, and abort.
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
    count = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    gpus = visible_gpus.list_gpus(device, os.environ.get(visible_gpus.VARIABLE, ""), count)
    if device not in ("auto", "cpu") and not gpus:
        why = (
            Reason(ReasonCode.NO_SUCH_GPU, {"device": device, "count": count}) if count else Reason(ReasonCode.NO_CUDA)
        )
        return {"error": why.to_json()}
    if gpus:
        os.environ[visible_gpus.VARIABLE] = ",".join(gpus)  # no process of this worker sees another
    device = "cuda" if gpus else "cpu"
    found: dict[str, object] = {
        "python": python,
        "torch": torch.__version__,
        "triton": None,
        "device": device,
        "gpus": gpus,
    }
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    with contextlib.suppress(Exception):
        import triton

        found["triton"] = triton.__version__
    return found
