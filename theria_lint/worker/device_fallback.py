"""Which path of a target runs on the CPU: the plain one, the one that a GPU would take, or both."""

from __future__ import annotations

import time
from dataclasses import replace
from types import ModuleType
from typing import Any

from theria.probes.derivatives import first_line
from theria.verdicts import Verdict
from theria_lint.confirm.protocol import TargetRequest
from theria_lint.model import Run, TargetKind
from theria_lint.worker import importer
from theria_lint.worker.find_call.run_trial import Binding, CannotCallError, PartError
from theria_lint.worker.find_call.search import bind
from theria_lint.worker.find_call.strategies import adapter_of, request_for
from theria_lint.worker.shims import fake_cuda, shim_log


class Clock:
    """The time that a probe has; ``left`` is what may go into finding out how to call the target."""

    def __init__(self, budget: float) -> None:
        """Starts now; ``budget`` in seconds."""
        self.left = budget
        self._deadline = time.monotonic() + budget

    def late(self) -> bool:
        """Whether nothing more should be begun."""
        return time.monotonic() > self._deadline


def import_anywhere(path: str, device: str) -> ModuleType:
    """Imports a file as it is or, where that seems to miss a GPU, with stand-ins for one.

    Raises:
        BaseException: whatever the import raises as it is.
    """
    try:
        return importer.import_file(path)
    except Exception as error:  # code that was not written for us
        if device != "cpu" or not fake_cuda.wants_gpu(str(error)):
            raise
        first = error
    fake_cuda.pretend()
    importer.forget(path)
    try:
        return importer.import_file(path)
    except Exception:  # the first refusal tells more
        raise first from None


def bind_anywhere(target: Any, request: TargetRequest, device: str, budget: float) -> Binding:
    """Binds a target as it is or, where it seems to miss a GPU, with CPU tensors that pass for a GPU's.

    Raises:
        CannotCallError: if no way to call it worked; the message ends with the lines that would tell how.
    """
    try:
        return _bind_anywhere(target, request, device, budget)
    except PartError:
        raise
    except CannotCallError as error:
        raise CannotCallError(f"{error}; {request_for(target, request.symbol, error.guessed)}") from None


def _bind_anywhere(target: Any, request: TargetRequest, device: str, budget: float) -> Binding:
    device = _device(request, device)
    try:
        return _bind(target, request, device, budget)
    except CannotCallError as error:
        if device != "cpu" or not (fake_cuda.wants_gpu(str(error)) or shim_log.asked(_module(target))):
            raise
        first = error
    fake_cuda.pretend()
    try:
        return _bind(importer.again(target, request.symbol), request, device, budget)
    except CannotCallError:
        raise
    except Exception:  # its import fails when it sees a GPU: the first refusal tells more
        raise first from None


def as_on_gpu(target: Any, request: TargetRequest, device: str, clock: Clock) -> tuple[Binding | None, str]:
    """The target on the path that a GPU would take, where a call asks whether it runs on one; or why it does not run.

    Where kernels have run already, the path has been taken.
    """
    known = device != "cpu" or fake_cuda.pretending() or shim_log.launches() > 0
    if known or not shim_log.asked(_module(target)):
        return None, ""
    if clock.late():
        return None, "out of time"
    fake_cuda.pretend()
    try:
        return _bind(importer.again(target, request.symbol), request, device, clock.left / 2), ""
    except Exception as error:  # what needs a real GPU raises anything
        return None, first_line(error)


def on_cpu_path(run: Run, refusal: str) -> Run:
    """A safe run that says of itself that the path of a GPU was not run, and why."""
    if not refusal or run.verdict is not Verdict.SAFE:
        return run
    reason = f"on the path that CPU tensors take {run.reason}; the path of a GPU could not be run: {refusal}"
    return replace(run, reason=reason)


def _bind(target: Any, request: TargetRequest, device: str, budget: float) -> Binding:
    """Binds the adapter that the user wrote for a target, or else the target."""
    adapter = adapter_of(target, request.symbol, request.hints.get("adapters", ()))
    if adapter is not None:
        return bind(adapter, TargetKind.FUNCTION, device, request.hints, budget)
    return bind(target, TargetKind(request.kind), device, request.hints, budget)


def _device(request: TargetRequest, device: str) -> str:
    """Where the configuration wants the target to run, in a worker that runs on ``device``."""
    wanted = str(request.hints.get("device", "auto"))
    if wanted == "cuda" and device == "cpu":
        raise CannotCallError("the configuration wants it on a GPU: run with --device cuda where there is one")
    return device if wanted == "auto" else wanted


def told(run: Run, target: Any) -> Run:
    """A run with what it needed to run on the CPU, and with the path it took if its code asks for a GPU."""
    notes = run.notes
    if shim_log.given():
        place = "CPU" if run.device == "cpu" else "GPU"
        notes += (f"ran on the {place} with {'; '.join(shim_log.given())}",)
    questions = shim_log.asked(_module(target))
    if questions and not fake_cuda.pretending() and run.device == "cpu":
        notes += (f"its code asks for a GPU ({', '.join(questions)}): this is the path that CPU tensors take",)
    lacking = shim_log.lacking(_module(target))
    if lacking and run.verdict is Verdict.SAFE:
        without = f"without {', '.join(lacking)}, which its code uses where installed, {run.reason}"
        return replace(run, notes=notes, reason=without)
    return replace(run, notes=notes)


def _module(target: Any) -> str:
    return getattr(target, "__module__", None) or ""
