"""Describe why a target has no verdict: import, memory, time, exit or signal."""

from __future__ import annotations

import os
import signal
import sys

from theria_lint.confirm.protocol import Job


def describe_late_import(seconds: float) -> str:
    """The import took too long."""
    return f"it could not be imported: that took more than {seconds:.0f} s; give it more with --timeout"


def describe_failed_import(error: BaseException) -> str:
    """The import raised."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = _name_missing_package(error.name)
        return f"it could not be imported: {missing} is missing; install it in the environment of {sys.executable}"
    if isinstance(error, SystemExit):
        return "it could not be imported: it exits when it is imported"
    if isinstance(error, (LateImportError, ChangedFileError)):
        return str(error)
    return f"it could not be imported: {_describe_error(error)}"


def _name_missing_package(module: str) -> str:
    """The package of a module that was not found, or the whole name where the package is there and lacks it."""
    package = module.partition(".")[0]
    return module if package in sys.modules else package


class LateImportError(BaseException):
    """The import took too long; not an Exception, which the code that is imported might catch."""


class ChangedFileError(BaseException):
    """A file is not what the suspects were found in; not an Exception, which the code that is imported might catch."""

    def __init__(self, path: str) -> None:
        """Says so, after "it could not be imported"."""
        name = os.path.basename(path)
        super().__init__(f"it was not run: {name} has changed since it was checked; run theria-lint again")


class NotDefinedError(AttributeError):
    """The import ran, and did not define a target."""

    def __init__(self, symbol: str) -> None:
        """Says so, and why that may be."""
        super().__init__(
            f"its module does not define {symbol} when it is imported here: it stands in a branch not taken"
        )


def describe_ended_import(status: int) -> str:
    """The import ended its process; ``status`` as ``os.waitpid`` gives it."""
    return f"it could not be imported: importing it {_describe_exit(status)}"


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error is Python's or PyTorch's way to say that there is no memory left."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def describe_failed_probe(error: BaseException, job: Job) -> str:
    """Calling the target raised what no probe expects."""
    if ran_out_of_memory(error):
        return f"it needs more than the {job.memory / (1 << 30):.3g} GiB of memory that a probe may take"
    if isinstance(error, SystemExit):
        return "it exits the process when it is called"
    if isinstance(error, NotDefinedError):
        return str(error)
    return f"the probe could not run it: {_describe_error(error)}"


def nonsense(error: Exception) -> str:
    """What a process answered is no outcome; the error says why, after "it"."""
    return f"its process gave an answer that cannot be one: it {error}"


def describe_ended_probe(status: int, job: Job) -> str:
    """The target ended its process, or had to be ended; ``status`` as ``os.waitpid`` gives it."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return f"it did not end within {job.probing_time:.0f} s; give it more with --timeout"
    return f"it {_describe_exit(status)}"


def _describe_exit(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"ended its process with {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended its process with exit code {os.waitstatus_to_exitcode(status)}"


def _describe_error(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:240]}" if text else type(error).__name__
