"""Find the reason why a target has no verdict: import, memory, time, exit or signal."""

from __future__ import annotations

import os
import signal
import sys

from theria_lint.confirm.protocol import Job
from theria_lint.reasons import CodedError, Ground, Reason, ReasonCode, find_coded_error
from theria_lint.worker.library_messages import is_device_lost, is_out_of_memory

_LONGEST = 240
"""How many characters of a foreign error's first line are kept."""


class ReasonedError(BaseException):
    """A failure whose reason is known; not an Exception, which the code that is imported might catch."""

    def __init__(self, code: ReasonCode, **data: object) -> None:
        """Keep the reason, of which ``data`` are the data."""
        super().__init__(code)
        self.reason = Reason(code, data)


class LateImportError(ReasonedError):
    """The import took too long."""

    def __init__(self, seconds: float) -> None:
        """More than so many seconds."""
        super().__init__(ReasonCode.IMPORT_TOO_SLOW, seconds=seconds)


class ChangedFileError(ReasonedError):
    """A file is not what the suspects were found in."""

    def __init__(self, path: str) -> None:
        """Name the file."""
        super().__init__(ReasonCode.FILE_CHANGED, file=os.path.basename(path))


class NotDefinedError(AttributeError):
    """The import ran, and did not define a target: it stands in a branch that was not taken."""

    def __init__(self, symbol: str) -> None:
        """Name the target."""
        super().__init__(symbol)
        self.reason = Reason(ReasonCode.NOT_DEFINED, {"symbol": symbol})


def explain_late_import(seconds: float) -> Reason:
    """The import took too long."""
    return Reason(ReasonCode.IMPORT_TOO_SLOW, {"seconds": seconds})


def explain_failed_import(error: BaseException) -> Reason:
    """The import raised."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = _name_missing_package(error.name)
        return Reason(ReasonCode.PACKAGE_MISSING, {"package": missing, "interpreter": sys.executable})
    if isinstance(error, SystemExit):
        return Reason(ReasonCode.IMPORT_EXITS)
    if isinstance(error, ReasonedError | CodedError):
        return error.reason
    return Reason(ReasonCode.IMPORT_RAISES, describe_error(error))


def _name_missing_package(module: str) -> str:
    """The package of a module that was not found, or the whole name where the package is there and lacks it."""
    package = module.partition(".")[0]
    return module if package in sys.modules else package


def explain_ended_import(status: int) -> Reason:
    """The import ended its process; ``status`` as ``os.waitpid`` gives it."""
    return Reason(ReasonCode.IMPORT_ENDS_PROCESS, _describe_exit(status))


def explain_failed_probe(error: BaseException, job: Job) -> Reason:
    """Calling the target raised what no probe expects."""
    if is_out_of_memory(error):
        return Reason(ReasonCode.OUT_OF_MEMORY, {"gib": job.memory / (1 << 30)})
    if isinstance(error, SystemExit):
        return Reason(ReasonCode.EXITS)
    if isinstance(error, NotDefinedError):
        return error.reason
    if is_device_lost(error):
        return Reason(ReasonCode.DEVICE_LOST, describe_error(error))
    coded = find_coded_error(error)
    return coded.reason if coded else Reason(ReasonCode.PROBE_RAISES, describe_error(error))


def explain_ended_probe(status: int, job: Job) -> Reason:
    """The target ended its process, or had to be ended; ``status`` as ``os.waitpid`` gives it."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return Reason(ReasonCode.PROBE_TOO_SLOW, {"seconds": job.probing_time})
    return Reason(ReasonCode.ENDS_PROCESS, _describe_exit(status))


def _describe_exit(status: int) -> dict[str, object]:
    if os.WIFSIGNALED(status):
        return {"signal": signal.Signals(os.WTERMSIG(status)).name, "exit_code": None}
    return {"signal": None, "exit_code": os.waitstatus_to_exitcode(status)}


def explain_error(error: BaseException) -> Reason:
    """The reason that an error gives itself, or that it was raised."""
    coded = find_coded_error(error)
    return coded.reason if coded else Reason(Ground.RAISED, describe_error(error))


def describe_error(error: BaseException, longest: int = _LONGEST) -> dict[str, object]:
    """The class of an error and the first line of what it says."""
    text = str(error).strip()
    return {"kind": type(error).__name__, "message": text.splitlines()[0][:longest] if text else ""}
