"""Notes what code under test tries that is forbidden, so that the report can say it in words."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from theria_lint.dynamic.worker.sandbox.programs import NotStartedError

_PROCESS = "starts a process"
_NETWORK = "uses the network"
_SIGNAL = "signals another process"
_FILE = "writes outside its temporary folder"

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


class Attempts:
    """What was tried last in this process, once installed; forked children go on with a copy."""

    def __init__(self, folder: str) -> None:
        """Writing is allowed under one folder."""
        self._folder = os.path.realpath(folder) + os.sep
        self._last: str | None = None

    def install(self) -> None:
        """Listens to the interpreter's audit events; for good, as the interpreter has no way back."""
        sys.addaudithook(self._hear)

    def forget(self) -> None:
        """Starts anew."""
        self._last = None

    def explain(self, reason: str, error: BaseException | None = None) -> str:
        """The reason in words, if it is the refusal of something that was tried, else as it is."""
        if self._last is None or not _tells_of_refusal(reason, error):
            return reason
        return f"it {self._last}, which a probe may not do ({reason})"

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS:
            self._last = _EVENTS[event]
        elif event == "socket.__new__" and arguments[1] != socket.AF_UNIX:
            self._last = _NETWORK
        elif (event == "open" and _writes(arguments)) or event in _CHANGES:
            self._hear_path(arguments[0])

    def _hear_path(self, path: Any) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            name = os.path.abspath(os.fsdecode(path))
            if not (name + os.sep).startswith((self._folder, "/dev/", "/proc/")):
                self._last = _FILE


def _writes(arguments: tuple[Any, ...]) -> bool:
    return isinstance(arguments[2], int) and bool(arguments[2] & _WRITING)


def _tells_of_refusal(reason: str, error: BaseException | None) -> bool:
    """Whether a reason, or an error or one behind it, is the system's refusal."""
    while error is not None:
        if isinstance(error, _REFUSALS):
            return True
        error = error.__cause__ or error.__context__
    return any(refusal.__name__ in reason for refusal in _REFUSALS)
