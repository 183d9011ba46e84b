"""Run code that wants a GPU on the CPU: plain path first, then the path that a GPU would take."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

from theria.verdicts import Verdict
from theria_lint.confirm.protocol import TargetRequest
from theria_lint.model import Run, TargetKind
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.worker import importer
from theria_lint.worker.clock import ProbeClock, read_clock
from theria_lint.worker.failure_messages import explain_error
from theria_lint.worker.find_call.opened_target import open_target
from theria_lint.worker.find_call.run_trial import CallSearch, CannotCallError, WorkingCall
from theria_lint.worker.find_call.search import find_working_call
from theria_lint.worker.find_call.strategies import explain_adapter_failure, find_adapter
from theria_lint.worker.library_messages import wants_gpu
from theria_lint.worker.shims.fake_cuda import FakeGpu
from theria_lint.worker.shims.shim_log import ShimLog


def import_with_fallback(path: str, device: str, fake_gpu: FakeGpu) -> ModuleType:
    """Import a file as it is or, where that seems to miss a GPU, with stand-ins for one.

    Raises:
        BaseException: whatever the import raises as it is.
    """
    try:
        return importer.import_file(path)
    except Exception as error:  # code that was not written for us
        if device != "cpu" or not wants_gpu(str(error)):
            raise
        first = error
    fake_gpu.enable()
    importer.forget_package_of_file(path)
    try:
        return importer.import_file(path)
    except Exception:  # the first refusal tells more
        raise first from None


def find_call_with_fallback(
    target: Any, request: TargetRequest, device: str, budget: float, fake_gpu: FakeGpu
) -> WorkingCall:
    """Bind a target as it is or, where it seems to miss a GPU, with CPU tensors that pass for a GPU's.

    Raises:
        CannotCallError: if no way to call it worked.
    """
    device = _choose_device(request, device)
    if device != "cpu" and request.hints.get("rehearsed"):
        return _take_call_to_gpu(
            _find_adapted_call(target, request, "cpu", budget / 2, fake_gpu.log), device, budget / 2
        )
    try:
        return _find_adapted_call(target, request, device, budget, fake_gpu.log)
    except CannotCallError as error:
        if device != "cpu" or not (
            wants_gpu(error.complaint) or fake_gpu.log.list_gpu_queries(_read_module_name(target))
        ):
            raise
        first = error
    fake_gpu.enable()
    try:
        return _find_adapted_call(_import_again(target, request), request, device, budget, fake_gpu.log)
    except CannotCallError:
        raise
    except Exception:  # its import fails when it sees a GPU: the first refusal tells more
        raise first from None


def _import_again(target: Any, request: TargetRequest) -> Any:
    """The target from its module imported anew: of a partial of a class that class, as it was opened before."""
    return open_target(importer.import_again(target, request.symbol), request)[0]


def _take_call_to_gpu(rehearsed: WorkingCall, device: str, budget: float) -> WorkingCall:
    """The call that works on the CPU, on a GPU.

    Raises:
        CannotCallError: if it does not work there.
        MemoryError: if there is no room for it.
    """
    search = CallSearch(read_clock() + budget, rehearsed.log)
    found = search.run_trial(rehearsed.strategy, replace(rehearsed.spec, device=device))
    if found is None:
        search.check_had_room()
        raise search.make_cannot_call_error(ReasonCode.NOTHING_TO_TRY)
    return replace(found, unused=rehearsed.unused)


def find_call_on_gpu_path(
    target: Any, request: TargetRequest, device: str, clock: ProbeClock, fake_gpu: FakeGpu
) -> tuple[WorkingCall | None, Reason | None]:
    """The target on the path that a GPU would take, where a call asks whether it runs on one; or why it does not run.

    Where kernels have run already, the path has been taken.
    """
    known = device != "cpu" or fake_gpu.is_enabled or fake_gpu.log.count_launches() > 0
    if known or not fake_gpu.log.list_gpu_queries(_read_module_name(target)):
        return None, None
    if clock.is_late():
        return None, Reason(ReasonCode.OUT_OF_TIME)
    fake_gpu.enable()
    try:
        again = _import_again(target, request)
        return _find_adapted_call(again, request, device, clock.left / 2, fake_gpu.log), None
    except CannotCallError as error:
        return None, error.reason
    except Exception as error:  # what needs a real GPU raises anything
        return None, explain_error(error)


def with_cpu_path_note(run: Run, refusal: Reason | None) -> Run:
    """A safe run that says of itself that the path of a GPU was not run, and why."""
    if refusal is None or run.verdict is not Verdict.SAFE:
        return run
    return replace(run, reason=Reason(ReasonCode.CPU_PATH_ONLY, {"reason": run.reason, "refusal": refusal}))


def _find_adapted_call(target: Any, request: TargetRequest, device: str, budget: float, log: ShimLog) -> WorkingCall:
    """Bind the adapter that the user wrote for a target, or else the target."""
    adapter = find_adapter(target, request.symbol, request.hints.get("adapters", ()))
    if adapter is not None:
        try:
            return find_working_call(adapter, TargetKind.FUNCTION, device, request.hints, budget, log)
        except CannotCallError as error:
            raise CannotCallError(explain_adapter_failure(adapter, error), error.complaint) from None
    return find_working_call(target, TargetKind(request.kind), device, request.hints, budget, log)


def _choose_device(request: TargetRequest, device: str) -> str:
    """Where the configuration wants the target to run, in a worker that runs on ``device``."""
    wanted = str(request.hints.get("device", "auto"))
    if wanted == "cuda" and device == "cpu":
        raise CannotCallError(Reason(ReasonCode.WANTS_GPU))
    return device if wanted == "auto" else wanted


def with_shim_notes(run: Run, target: Any, fake_gpu: FakeGpu) -> Run:
    """A run with what it needed to run on the CPU, and with the path it took if its code asks for a GPU."""
    notes, log = run.notes, fake_gpu.log
    if log.list_used_shims():
        place = "CPU" if run.device == "cpu" else "GPU"
        notes += (Reason(ReasonCode.SHIMS_USED, {"place": place, "shims": list(log.list_used_shims())}),)
    questions = log.list_gpu_queries(_read_module_name(target))
    if questions and not fake_gpu.is_enabled and run.device == "cpu":
        notes += (Reason(ReasonCode.GPU_QUERIES, {"queries": list(questions)}),)
    lacking = log.list_missing_packages(_read_module_name(target))
    if lacking and run.verdict is Verdict.SAFE:
        without = {"packages": list(lacking), "reason": run.reason}
        return replace(run, notes=notes, reason=Reason(ReasonCode.WITHOUT_PACKAGES, without))
    return replace(run, notes=notes)


def _read_module_name(target: Any) -> str:
    return getattr(target, "__module__", None) or ""
