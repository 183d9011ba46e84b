"""The forked import process: import one variant of a file, then fork one process for each target in it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from theria_lint.confirm import message_checks
from theria_lint.confirm.message_checks import NonsenseError
from theria_lint.confirm.protocol import LONGEST_ANSWER, Job, Outcome, TargetRequest
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.sandbox import confine, linux, refused_operations
from theria_lint.sandbox.refused_operations import RefusedOperations
from theria_lint.worker import clock, failure_messages, library_messages, visible_gpus
from theria_lint.worker.file_dependencies import FileDependencyTracker
from theria_lint.worker.job import IMPORTED_NOTICE, LISTENER_NOTICE

if TYPE_CHECKING:
    from theria_lint.worker.shims.fake_cuda import FakeGpu

_PIECE = 1 << 16


@dataclass(frozen=True)
class _JobContext:
    """A job, where to answer it, and what watches over the code under test."""

    job: Job
    pipe: int
    refused: RefusedOperations
    tracker: FileDependencyTracker

    def make_failed_outcome(
        self, target: TargetRequest, reason: Reason, error: BaseException, *, lasting: bool
    ) -> Outcome:
        """The outcome of a target that raised; ``lasting``: it would raise another time, too."""
        reads = self.tracker.list_reads() if lasting else None
        why = self.refused.explain_refusal(reason, error)
        return Outcome(self.job.id, target.symbol, reason=why, reads=reads, lasting=lasting)


def serve_job(job: Job, channel: socket.socket, folder: str, tracker: FileDependencyTracker) -> NoReturn:
    """Answer a job, one outcome a line, and exit. Never returns: the caller is the server's fork.

    ``folder`` is the one place where the code under test may write.
    """
    pipe = channel.fileno()
    try:
        os.setsid()
        linux.die_with_parent()
        linux.hide_memory(False)
        confine.close_files_except(pipe)
        confine.settle_in_folder(folder)
        visible_gpus.take_share(job.gpu)
        confine.limit_resources(job.memory, job.import_time, device=job.device)
        refused = RefusedOperations(folder)
        refused.listen_to_audit_events()
        listener, _ = confine.apply_confinement(job.files, folder, device=job.device)
        if listener is not None:
            socket.send_fds(channel, [LISTENER_NOTICE + b"\n"], [listener])
            os.close(listener)
        tracker.restart_tracking(folder)
        _answer_job(_JobContext(job, pipe, refused, tracker))
    finally:
        os._exit(0)


def _answer_job(context: _JobContext) -> None:
    try:
        _import_and_probe_targets(context)
    except BaseException as error:  # the module's own import may raise anything, SystemExit included
        for target in context.job.targets:
            _write_outcome(context.pipe, _make_import_failure(context, target, error))


def _make_import_failure(context: _JobContext, target: TargetRequest, error: BaseException) -> Outcome:
    lasting = not isinstance(error, (MemoryError, failure_messages.ReasonedError))
    return context.make_failed_outcome(target, failure_messages.explain_failed_import(error), error, lasting=lasting)


def _import_and_probe_targets(context: _JobContext) -> None:
    from theria_lint.worker import device_fallback, importer
    from theria_lint.worker.shims import no_codegen
    from theria_lint.worker.shims.fake_cuda import FakeGpu
    from theria_lint.worker.shims.shim_log import ShimLog
    from theria_lint.worker.triton_interpreter import launching

    job = context.job
    log = ShimLog()
    fake_gpu = FakeGpu(log)
    no_codegen.avoid_code_generation(log)
    launching.watch_launches(log, full_precision=job.device != "cpu" and launching.raise_float32_precision())
    log.watch_missing_packages()
    if job.device == "cpu":
        refused_operations.hide_programs(log.record_shim)
        fake_gpu.install_shims()
    importer.replace_sources(job.overrides, job.digests)

    def load() -> ModuleType:
        return _import_in_time(
            lambda: device_fallback.import_with_fallback(job.path, job.device, fake_gpu), job.import_time
        )

    module = load() if job.imports_once else None
    os.write(context.pipe, IMPORTED_NOTICE + b"\n")
    linux.hide_memory()  # from its children, who are no other user
    for target in job.targets:
        _probe_in_fork(lambda: module or load(), target, context, fake_gpu)


def _import_in_time(action: Callable[[], ModuleType], seconds: float) -> ModuleType:
    """Run the import under an alarm, so that a module that loops is told from one that is slow to probe.

    The server ends an import that no alarm can interrupt.
    """

    def expire(signum: int, frame: object) -> NoReturn:
        raise failure_messages.LateImportError(seconds)

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return action()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _probe_in_fork(
    load: Callable[[], ModuleType], target: TargetRequest, context: _JobContext, fake_gpu: FakeGpu
) -> None:
    """Probe a target in a child of its own, and answer for it; once more where made-up arguments cost it the GPU.

    An index out of bounds raises on a CPU, where another call is tried then; on a GPU it ends all that a process can
    do there.
    """
    outcome = _ask_child(load, target, context, fake_gpu)
    lost = outcome.reason is not None and outcome.reason.code == ReasonCode.DEVICE_LOST
    if lost and context.job.device != "cpu":
        outcome = _ask_child(load, replace(target, hints={**target.hints, "rehearsed": True}), context, fake_gpu)
    _write_outcome(context.pipe, outcome)


def _ask_child(
    load: Callable[[], ModuleType], target: TargetRequest, context: _JobContext, fake_gpu: FakeGpu
) -> Outcome:
    """What a process of its own says of a target, or why it says nothing."""
    job = context.job
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        confine.close_files_except(theirs.fileno())
        _probe_and_exit(load, target, context, fake_gpu, theirs)
    theirs.close()
    answer = _hear(ours, clock.Patience(job.target_time, lambda: clock.read_process_clock(pid)))
    ours.close()
    linux.kill_process_group(pid)
    _, status = os.waitpid(pid, 0)
    return _believed(answer, status, target, job)


def _believed(answer: bytes, status: int, target: TargetRequest, job: Job) -> Outcome:
    """The outcome that a child has given for its target; of a process that died, what it said is no evidence."""
    too_long = len(answer) > LONGEST_ANSWER
    if not answer or (status != 0 and not too_long):
        return Outcome(job.id, target.symbol, reason=failure_messages.explain_ended_probe(status, job))
    try:
        if too_long:
            raise NonsenseError(ReasonCode.ANSWER_TOO_LONG, kind="answer", most=LONGEST_ANSWER)
        outcome = Outcome.from_json(message_checks.parsed(answer))
    except NonsenseError as error:
        return Outcome(job.id, target.symbol, reason=Reason(ReasonCode.NONSENSE_ANSWER, {"reason": error.reason}))
    return replace(outcome, job=job.id, symbol=target.symbol)


def _probe_and_exit(
    load: Callable[[], ModuleType],
    target: TargetRequest,
    context: _JobContext,
    fake_gpu: FakeGpu,
    channel: socket.socket,
) -> NoReturn:
    """The innermost child: everything the target does happens here."""
    me = os.getpid()
    os.setsid()
    linux.die_with_parent()
    linux.hide_memory(False)
    try:
        outcome = _compute_outcome(load, target, context, fake_gpu)
    except BaseException as error:
        lasting = not library_messages.is_out_of_memory(error)
        outcome = context.make_failed_outcome(
            target, failure_messages.explain_failed_probe(error, context.job), error, lasting=lasting
        )
    if os.getpid() == me:
        _tell(channel, outcome)
    os._exit(0)


def _tell(channel: socket.socket, outcome: Outcome) -> None:
    """Answer on a pipe that is made now: code under test, which may write to any file it finds open, found it not."""
    try:
        reader, writer = os.pipe()
    except OSError:  # the target has left no room for more files
        confine.close_files_except(channel.fileno())
        reader, writer = os.pipe()
    socket.send_fds(channel, [b"\n"], [reader])
    os.close(reader)
    _write_outcome(writer, outcome)


def _hear(channel: socket.socket, patience: clock.Patience) -> bytes:
    """What a child answers on the pipe that it sends; what is written to the channel itself counts for nothing."""
    while _is_ready(channel.fileno(), patience):
        data, descriptors, _, _ = socket.recv_fds(channel, _PIECE, 1)
        if descriptors:
            answer = _read_pipe(descriptors[0], patience)
            os.close(descriptors[0])
            return answer
        if not data:
            break
    return b""


def _compute_outcome(
    load: Callable[[], ModuleType], target: TargetRequest, context: _JobContext, fake_gpu: FakeGpu
) -> Outcome:
    from theria_lint.worker import importer, probe_target

    job = context.job
    confine.limit_resources(job.memory, job.target_time, device=job.device)
    confine.apply_target_confinement(device=job.device)
    try:
        visible_gpus.limit_gpu_memory(job.gpu)
        module = load()
    except BaseException as error:
        return _make_import_failure(context, target, error)
    context.refused.forget_last()
    found = importer.resolve_symbol(module, target.symbol)
    if job.device != "cpu":
        clock.use_wall_clock()
    spent = clock.ProbeClock(job.probing_time / 2)
    outcome = probe_target.run_target(
        found, target, fake_gpu, job=job.id, device=job.device, watched=job.watched, clock=spent
    )
    reason = context.refused.explain_refusal(outcome.reason) if outcome.reason else None
    return replace(outcome, reason=reason, reads=context.tracker.list_reads(), lasting=not spent.is_late())


def _write_outcome(pipe: int, outcome: Outcome) -> None:
    data = json.dumps(outcome.to_json()).encode() + b"\n"
    while data:
        data = data[os.write(pipe, data) :]


def _read_pipe(pipe: int, patience: clock.Patience) -> bytes:
    """Everything up to the end of the pipe, of patience or a length that no outcome has."""
    data = bytearray()
    while len(data) <= LONGEST_ANSWER and _is_ready(pipe, patience):
        chunk = os.read(pipe, _PIECE)
        if not chunk:
            break
        data += chunk
    return bytes(data)


def _is_ready(descriptor: int, patience: clock.Patience) -> bool:
    while (rest := patience.compute_rest()) > 0:
        ready, _, _ = select.select([descriptor], [], [], rest)
        if ready:
            return True
    return bool(select.select([descriptor], [], [], 0.0)[0])
