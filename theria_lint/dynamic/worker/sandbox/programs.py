"""Lets code that starts a program meet what it would meet where that program is not installed.

Packages ask git for their version, or nvidia-smi for a device, while they are imported, and go on without an answer. A
probe may start nothing at all, and an import that fails for that would tell nothing about the kernel.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import Any

from theria_lint.dynamic.worker import helps

_HELP = "no other program to start"
# What a shell returns that does not find a command.
_NOT_FOUND = 127


class NotStartedError(FileNotFoundError):
    """A program was not started, as though it were not there."""


def hide() -> None:
    """For good, in this process and those forked from it."""
    subprocess.Popen._execute_child = _execute_child  # type: ignore[attr-defined]
    os.system = _system


def _execute_child(
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
    """Takes the place of the method of `subprocess.Popen`: a shell that finds no command, or a program that is absent.

    ``rest`` begins with the three pairs of pipe ends.
    """
    sys.audit("subprocess.Popen", executable, args, cwd, env)
    helps.give(_HELP)
    if not shell:
        program = executable or (args if isinstance(args, (str, bytes, os.PathLike)) else next(iter(args)))
        raise NotStartedError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(program))
    process.pid = os.getpid()
    process.returncode = _NOT_FOUND
    process._child_created = True  # type: ignore[attr-defined]
    process._close_pipe_fds(*rest[:6])  # type: ignore[attr-defined]


def _system(command: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> int:
    sys.audit("os.system", command)
    helps.give(_HELP)
    return _NOT_FOUND << 8
