"""A running job, seen from the server: its process, the outcomes it has sent, the processes it may start."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from theria_lint.confirm.protocol import LONGEST_ANSWER, Job, Outcome
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.sandbox import linux, namespaces, readable_paths, seccomp, tempdir
from theria_lint.sandbox.environment import make_folder_variables
from theria_lint.worker import failure_messages
from theria_lint.worker.file_dependencies import FileDependencyTracker
from theria_lint.worker.kernel_cache import Kernels, write_kernels

LISTENER_NOTICE = b"listener"
"""The line that comes with the listener's file descriptor."""
IMPORTED_NOTICE = b"imported"
"""The line that says that the file has been imported, and that a process for each target will be wanted."""

_RECEIVE_SIZE = 1 << 16
_NOTICES = 2
"""How many lines of a job speak of no target."""
_MAX_COMPILER_PROCESSES = 512
"""How many processes a target may start on a GPU, where Triton runs an assembler and a C compiler for each kernel, at
each size and dtype that it is specialised for."""


Serve = Callable[[Job, socket.socket, str, FileDependencyTracker], NoReturn]
"""What a child does: see ``import_process.serve_job``."""


@dataclass(eq=False)
class RunningJob:
    """A child that serves a job; ``forks`` counts the processes that it may still start."""

    job: Job
    pid: int
    channel: socket.socket
    folder: str
    mounted: bool
    deadline: float
    listener: int | None = None
    imported: bool = False
    forks: int = 0
    status: int | None = None
    said: int = 0
    unread: bytes = b""
    late: bool = False
    excess: Reason | None = None
    heard: int = 0
    floods: bool = False

    @classmethod
    def start_child(
        cls, job: Job, parent: str, tracker: FileDependencyTracker, serve: Serve, kernels: Kernels
    ) -> RunningJob:
        """Fork the child, with a folder of its own inside the parent's; ``tracker`` is the server's.

        ``kernels`` are compiled already.
        """
        readable_paths.foresee(job.files, device=job.device)
        folder = os.path.join(parent, str(job.id))
        os.mkdir(folder, 0o700)
        mounted = namespaces.mount_folder(folder)
        write_kernels(kernels, make_folder_variables(folder)["TRITON_CACHE_DIR"])
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            serve(job, theirs, folder, tracker)
        theirs.close()
        ours.setblocking(False)
        return cls(job, pid, ours, folder, mounted, time.monotonic() + job.import_time + 1)

    def read_outcomes(self) -> tuple[list[str], bool]:
        """The outcomes that have been said since, and whether more may come."""
        data, open_ = self._receive_data()
        *lines, self.unread = (self.unread + data).split(b"\n")
        self.heard += len(lines)
        self.floods = self.heard > len(self.job.targets) + _NOTICES or len(self.unread) > LONGEST_ANSWER
        said = [line.decode("utf-8", "replace") for line in lines if not self._is_notice(line)]
        said = said[: len(self.job.targets) - self.said]
        self.said += len(said)
        if said:
            self._grant_forks()
        return said, open_ and not self.floods

    def _receive_data(self) -> tuple[bytes, bool]:
        """All that has arrived, up to the length of a line, and whether more may come.

        A process that asks to start another has said what entitles it to that: a part of it would not do.
        """
        data = b""
        while len(data) < LONGEST_ANSWER:
            try:
                chunk, descriptors, _, _ = socket.recv_fds(self.channel, _RECEIVE_SIZE, 1)
            except BlockingIOError:
                return data, True
            except OSError:
                return data, False
            for descriptor in descriptors:
                self._take_listener(descriptor)
            if not chunk:
                return data, False
            data += chunk
        return data, True

    def _take_listener(self, descriptor: int) -> None:
        """Take the first descriptor for the listener: it is sent before any code under test runs."""
        if self.listener is None:
            self.listener = descriptor
        else:
            os.close(descriptor)

    def _is_notice(self, line: bytes) -> bool:
        """Whether a line speaks of the job and not of a target.

        The file can forge the notice of its import: it gains the processes that it would have had anyway.
        """
        if line == IMPORTED_NOTICE and not self.imported:
            self.imported = True
            self._grant_forks()
            self.deadline = time.monotonic() + len(self.job.targets) * (self.job.longest_wait + 1) + 1
        return line in (LISTENER_NOTICE, IMPORTED_NOTICE)

    def _grant_forks(self) -> None:
        """Let the next target have its processes, once the file is imported."""
        left = self.imported and self.said < len(self.job.targets)
        self.forks = (1 if self.job.device == "cpu" else 1 + _MAX_COMPILER_PROCESSES) if left else 0

    def answer_fork_request(self) -> None:
        """Answer the wish to start a process, none while importing, or to signal one: none but the job's own."""
        assert self.listener is not None
        wish = linux.hear(self.listener)
        if wish is None:
            return
        if seccomp.is_signal(wish.call):
            refusal = None if self.may_signal(wish.argument) else errno.EPERM
        else:
            refusal = None if self.forks > 0 else errno.EAGAIN
            self.forks -= 1
        linux.answer_notification(self.listener, wish, refusal)

    def may_signal(self, process: int) -> bool:
        """Whether a process, or for a negative number its group, belongs to the job; -1 are all that there are."""
        return process == 0 or (process != -1 and linux.descends(abs(process), self.pid))

    def is_overdue(self) -> bool:
        """Whether its time is up."""
        self.late = time.monotonic() > self.deadline
        return self.late

    def is_too_large(self) -> bool:
        """Whether its folder has outgrown the limits, where no file system enforces them."""
        self.excess = None if self.mounted else tempdir.find_excess(self.folder)
        return self.excess is not None

    @property
    def ended_well(self) -> bool:
        """Whether its process ended by itself, when it had said all: otherwise what it said last is no evidence."""
        return self.status == 0 and not (self.late or self.excess or self.floods)

    def stop_child(self) -> None:
        """End the child, which may be about to end by itself: then that is how it ended."""
        for _ in range(20 if not (self.late or self.excess or self.floods) else 0):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                break
            time.sleep(0.001)
        linux.kill_process_group(self.pid)
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
        self.channel.close()
        if self.listener is not None:
            os.close(self.listener)

    def remove_folder(self) -> None:
        """Remove the folder."""
        if self.mounted:
            namespaces.unmount_folder(self.folder)
        tempdir.remove_folder(self.folder)

    def make_final_outcomes(self) -> list[str]:
        """Outcomes for the targets that have none because of how the job ended.

        Once the file is imported that is the target that ran; the parent asks for those behind it again.
        """
        reason = self._find_end_reason()
        last = self.said + 1 if self.imported else None
        first = self.said - self.floods if self.said == len(self.job.targets) else self.said
        left = self.job.targets[first:last] if reason is not None else ()
        return [json.dumps(Outcome(self.job.id, target.symbol, reason=reason).to_json()) for target in left]

    def _find_end_reason(self) -> Reason | None:
        if self.excess:
            return Reason(ReasonCode.WRITES_TOO_MUCH, {"reason": self.excess})
        if self.floods:
            return Reason(ReasonCode.TOO_MANY_ANSWERS)
        if self.imported:
            return None
        if self.late:
            return failure_messages.explain_late_import(self.job.import_time)
        return failure_messages.explain_ended_import(self.status or 0)
