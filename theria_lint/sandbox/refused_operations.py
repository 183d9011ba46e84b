"""Note what code under test tries that is forbidden, so that its outcome can name it."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from theria_lint.reasons import Reason, ReasonCode, iter_texts

# What a shell returns that does not find a command.
_NOT_FOUND = 127


class NotStartedError(FileNotFoundError):
    """A program was not started, as though it were not there."""


def hide_programs(record_shim: Callable[[ReasonCode], None]) -> None:
    """Let no program be found, in this process and those forked from it, for good; record that one was looked for."""

    def refuse_child(process: subprocess.Popen[Any], *arguments: Any) -> None:
        record_shim(ReasonCode.NO_PROGRAMS)
        _refuse_child(process, *arguments)

    def refuse_system(command: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> int:
        record_shim(ReasonCode.NO_PROGRAMS)
        return _refuse_system(command)

    subprocess.Popen._execute_child = refuse_child  # type: ignore[attr-defined]
    os.system = refuse_system


def _refuse_child(
    process: subprocess.Popen[Any],
    args: Any,
    executable: Any,
    preexec_fn: object,
    close_fds: object,
    pass_fds: object,
    cwd: object,
    env: object,
    startupinfo: object,
    creationflags: object,
    shell: bool,
    *rest: Any,
) -> None:
    """Take the place of the method of `subprocess.Popen`: a shell that finds no command, or a program that is absent.

    ``rest`` begins with the three pairs of pipe ends.
    """
    sys.audit("subprocess.Popen", executable, args, cwd, env)
    if not shell:
        program = executable or (args if isinstance(args, (str, bytes, os.PathLike)) else next(iter(args)))
        raise NotStartedError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(program))
    process.pid = os.getpid()
    process.returncode = _NOT_FOUND
    process._child_created = True  # type: ignore[attr-defined]
    process._close_pipe_fds(*rest[:6])  # type: ignore[attr-defined]


def _refuse_system(command: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> int:
    sys.audit("os.system", command)
    return _NOT_FOUND << 8


_PROCESS = ReasonCode.STARTS_PROCESS
_NETWORK = ReasonCode.USES_NETWORK
_SIGNAL = ReasonCode.SIGNALS_PROCESS
_FILE = ReasonCode.WRITES_OUTSIDE

_EVENTS = {
    **dict.fromkeys(
        ("os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec", "subprocess.Popen"), _PROCESS
    ),
    **dict.fromkeys(("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"), _NETWORK),
    **dict.fromkeys(("os.kill", "os.killpg"), _SIGNAL),
}
_REFUSALS = (PermissionError, BlockingIOError, NotStartedError)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = frozenset(("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate"))


class RefusedOperations:
    """What was tried last in this process, once installed; forked children go on with a copy."""

    def __init__(self, folder: str) -> None:
        """Writing is allowed under one folder."""
        self._folder = os.path.realpath(folder) + os.sep
        self._last: ReasonCode | None = None

    def listen_to_audit_events(self) -> None:
        """Listen to the interpreter's audit events; for good, as the interpreter has no way back."""
        sys.addaudithook(self._hear_audit_event)

    def forget_last(self) -> None:
        """Start anew."""
        self._last = None

    def explain_refusal(self, reason: Reason, error: BaseException | None = None) -> Reason:
        """What was tried, for a reason, if that is the refusal of something that was tried, else as it is."""
        if self._last is None or not _tells_of_refusal(reason, error):
            return reason
        return Reason(self._last, {"reason": reason})

    def _hear_audit_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS:
            self._last = _EVENTS[event]
        elif event == "socket.__new__" and arguments[1] != socket.AF_UNIX:
            self._last = _NETWORK
        elif (event == "open" and _is_writing(arguments)) or event in _CHANGES:
            self._hear_written_path(arguments[0])

    def _hear_written_path(self, path: Any) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            name = os.path.abspath(os.fsdecode(path))
            if not (name + os.sep).startswith((self._folder, "/dev/", "/proc/")):
                self._last = _FILE


def _is_writing(arguments: tuple[Any, ...]) -> bool:
    return isinstance(arguments[2], int) and bool(arguments[2] & _WRITING)


def _tells_of_refusal(reason: Reason, error: BaseException | None) -> bool:
    """Whether a reason, or an error or one behind it, is the system's refusal."""
    while error is not None:
        if isinstance(error, _REFUSALS):
            return True
        error = error.__cause__ or error.__context__
    return any(refusal.__name__ in text for text in iter_texts(reason) for refusal in _REFUSALS)
