"""Probe one target: find a working call, measure it on each backend and configuration, report the runs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from theria.attention.registry import backend_names
from theria.maml import TaskShape
from theria.maml.probe import maml_probe
from theria.probes.layouts import LAYOUTS, Shape, from_bhtd, to_bhtd
from theria.probes.point import trial
from theria.probes.report import Report
from theria.probes.sweep import attention_references, measure_under_autocast, summarise
from theria.verdicts import Verdict
from theria_lint.confirm.protocol import Outcome, TargetRequest
from theria_lint.model import AS_IT_IS, Configuration, Run, TargetKind
from theria_lint.reasons import Ground, Reason, ReasonCode
from theria_lint.worker.base_attention import SdpaCounter, make_base_attention
from theria_lint.worker.clock import ProbeClock
from theria_lint.worker.configurations.flags import list_flags, turn_globals
from theria_lint.worker.configurations.list_configurations import (
    Configurations,
    find_fused_kernel_call,
    keep_first_configuration,
    list_configurations,
    list_training_specs,
)
from theria_lint.worker.configurations.measure_configuration import Measuring, Pace, ReferenceTwin
from theria_lint.worker.device_fallback import (
    find_call_on_gpu_path,
    find_call_with_fallback,
    with_cpu_path_note,
    with_shim_notes,
)
from theria_lint.worker.failure_messages import explain_error
from theria_lint.worker.find_call.call_strategy import BoundCall, TrialSpec, read_flag
from theria_lint.worker.find_call.computation import Outputs, look_at_outputs
from theria_lint.worker.find_call.opened_target import open_target
from theria_lint.worker.find_call.run_trial import CannotCallError, WorkingCall
from theria_lint.worker.find_call.strategies import explain_no_call, has_adapter
from theria_lint.worker.library_messages import is_device_lost
from theria_lint.worker.safe_coverage import (
    hold_back_unfinished,
    list_safe_elsewhere,
    note_coverage,
    settles,
    with_safe_elsewhere,
)
from theria_lint.worker.shims.fake_cuda import FakeGpu
from theria_lint.worker.shims.no_codegen import forget_compiled_code
from theria_lint.worker.trace import ConfigurationTraces, merge_spans


def run_target(
    target: Any,
    request: TargetRequest,
    fake_gpu: FakeGpu,
    *,
    job: int,
    device: str,
    watched: Sequence[str],
    clock: ProbeClock,
) -> Outcome:
    """Probe a target and report its runs, or the reason why it could not be called."""
    target, request = open_target(target, request)
    sdpa = SdpaCounter()
    sdpa.replace_sdpa()
    turned = read_flag(request.hints)
    with turn_globals(target, turned):
        try:
            working_call = find_call_with_fallback(target, request, device, clock.left, fake_gpu)
        except CannotCallError as error:
            why = explain_no_call(target, request.symbol, error, turned=bool(turned))
            return Outcome(job, request.symbol, reason=why)
        outcome = _probe_call(
            target, request, working_call, sdpa, fake_gpu, job=job, device=device, watched=watched, clock=clock
        )
    wanted = not turned and request.hints.get("maml", True) and not has_adapter(target, request.symbol)
    if not wanted or clock.is_late():
        return outcome
    fixed = request.hints.get("kwargs", {})
    return replace(
        outcome, flags=tuple(list_flags(target, TargetKind(request.kind), working_call, fixed, clock.is_late))
    )


def _probe_call(
    target: Any,
    request: TargetRequest,
    working_call: WorkingCall,
    sdpa: SdpaCounter,
    fake_gpu: FakeGpu,
    *,
    job: int,
    device: str,
    watched: Sequence[str],
    clock: ProbeClock,
) -> Outcome:
    """Probe a target that can be called, and report its runs."""
    kind = TargetKind(request.kind)
    fake_gpu.log.forget_import_queries()
    forget_compiled_code()
    outputs = look_at_outputs(working_call)
    subjects = [
        _ProbeSubject(
            working_call,
            list_configurations(working_call, outputs),
            ConfigurationTraces(working_call, watched),
            request.hints,
            clock,
            outputs,
        )
    ]
    runs = [with_shim_notes(run, target, fake_gpu) for run in _run_on_backends(subjects[0], kind, sdpa)]
    other, refusal = find_call_on_gpu_path(target, request, device, clock, fake_gpu)
    runs = [with_cpu_path_note(run, refusal) for run in runs]
    called = _describe_recorded_calls(working_call)
    runs = [replace(run, notes=(*run.notes, *called)) for run in runs]
    guessed = bool(other is None and working_call.strategy.shown and request.hints.get("examples"))
    guessed = guessed and all(run.verdict is Verdict.SAFE for run in runs)
    if guessed:
        other = _find_guessed_call(target, request, device, clock, fake_gpu)
    if other is not None:
        others = look_at_outputs(other)
        subjects.append(
            replace(
                subjects[0],
                working_call=other,
                specs=list_configurations(other, others),
                outputs=others,
                traces=ConfigurationTraces(other, watched),
            )
        )
        further = [with_shim_notes(run, target, fake_gpu) for run in _run_on_backends(subjects[1], kind, sdpa)]
        if settles(further):
            runs += further
        elif not guessed:  # what does not fit a call that we made up says nothing of the example
            runs = [with_cpu_path_note(run, further[0].reason) for run in runs]
    runs = [_with_declared_outputs(run, outputs) for run in runs]
    places = merge_spans(subject.traces.list_spans() for subject in subjects)
    aside = merge_spans(subject.traces.list_backward_spans() for subject in subjects)
    return Outcome(job, request.symbol, tuple(runs), places=places, aside=aside)


def _find_guessed_call(
    target: Any, request: TargetRequest, device: str, clock: ProbeClock, fake_gpu: FakeGpu
) -> WorkingCall | None:
    """The call that is guessed, beside that of an example: it is made in many ways, the example in one."""
    hints = {name: value for name, value in request.hints.items() if name != "examples"}
    if clock.is_late():
        return None
    try:
        return find_call_with_fallback(target, replace(request, hints=hints), device, clock.left / 2, fake_gpu)
    except CannotCallError:
        return None


def _describe_recorded_calls(working_call: WorkingCall) -> list[Reason]:
    """Whose recorded calls the target was called with, or why it was not called with those."""
    if working_call.unused is not None:
        return [Reason(ReasonCode.CALLS_UNUSED, {"reason": working_call.unused})]
    callers = list(dict.fromkeys(working_call.strategy.callers))
    cuts = {f"{size} to {left}" for spec in working_call.strategy.specs for size, left in spec.cut.items()}
    code = ReasonCode.CALLED_AS_SHOWN if working_call.strategy.shown else ReasonCode.CALLED_AS_RECORDED
    return [Reason(code, {"callers": callers, "smaller": sorted(cuts)})] if callers else []


def _with_declared_outputs(run: Run, outputs: Outputs) -> Run:
    """A safe run that says what the target returns outside the graph by its author's own word."""
    if not outputs.declared or run.verdict is not Verdict.SAFE:
        return run
    told = {"reason": run.reason, "outputs": [str(number + 1) for number in outputs.declared]}
    return replace(run, reason=Reason(ReasonCode.DETACHED_OUTPUTS, told))


@dataclass(frozen=True)
class _ProbeSubject:
    """A target that can be called, what it is probed in, what it has executed there, and what limits the probe."""

    working_call: WorkingCall
    specs: Configurations
    traces: ConfigurationTraces
    hints: Mapping[str, Any]
    clock: ProbeClock
    outputs: Outputs


def _run_on_backends(subject: _ProbeSubject, kind: TargetKind, sdpa: SdpaCounter) -> Iterator[Run]:
    """One run as the target is, and one on each backend where an attention function belongs under it."""
    working_call = subject.working_call
    backends = [name for name in backend_names() if name in subject.hints.get("backends", backend_names())]
    if kind is TargetKind.WRAPPER:
        reference = make_base_attention("reference")
        for backend in backends:
            base = make_base_attention(backend)
            specs = {name: replace(spec, base=base) for name, spec in subject.specs.items()}
            based = replace(
                subject, working_call=replace(working_call, spec=replace(working_call.spec, base=base)), specs=specs
            )
            yield _run_configurations(
                based, backend, lambda spec: working_call.make_call(replace(spec, base=reference)).compute_output
            )
        return
    sdpa.use_backend(AS_IT_IS)
    sdpa.count = sdpa.fused = 0
    run = _run_configurations(subject, AS_IT_IS)
    if working_call.spec.device != "cpu" and run.verdict is Verdict.SAFE:
        run = _in_training_dtypes(subject, run)
    if sdpa.count and not sdpa.fused and run.verdict is Verdict.SAFE:
        run = _run_where_fused(subject, sdpa) or replace(run, notes=(*run.notes, Reason(ReasonCode.MATH_PATH)))
    yield run
    for backend in backends if sdpa.count else ():
        if subject.clock.is_late():  # what the target is by itself is known
            yield _make_failed_run(working_call, backend, [_note_not_probed(backend, Reason(ReasonCode.OUT_OF_TIME))])
            continue
        sdpa.use_backend(backend)
        yield _run_configurations(
            subject, backend, lambda spec: sdpa.wrap_with_reference(working_call.make_call(spec).compute_output)
        )


def _in_training_dtypes(subject: _ProbeSubject, run: Run) -> Run:
    """A safe run on a GPU or, where it is unsafe in a precision that people train in, that one.

    What is dispatched there depends on the precision: few kernels are written for float64, in which all is well.
    """
    notes: list[Reason] = []
    for name, spec in list_training_specs(subject.working_call).items():
        found = _run_configurations(replace(subject, specs={name: spec}), AS_IT_IS)
        if found.verdict.unsafe:
            return _as_in_dtype(found)
        message = found.error if found.verdict is Verdict.INCONCLUSIVE else None
        data = {"dtype": found.dtype, "verdict": str(found.verdict), "message": message}
        notes.append(Reason(ReasonCode.DTYPE_VERDICT, data))
    return replace(run, notes=(*run.notes, *notes))


def _run_where_fused(subject: _ProbeSubject, sdpa: SdpaCounter) -> Run | None:
    """The run with sizes at which a fused kernel makes the target unsafe, if there are any."""
    found = find_fused_kernel_call(subject.working_call, sdpa)
    if found is None:
        return None
    specs = {str(Configuration.FUSED_KERNEL_SIZES): found.spec}
    run = _run_configurations(replace(subject, working_call=found, specs=specs), AS_IT_IS)
    if not run.verdict.unsafe:
        return None
    return run if found.spec.dtype is subject.working_call.spec.dtype else _as_in_dtype(run)


def _as_in_dtype(run: Run) -> Run:
    """An unsafe run in a precision that people train in, which says so."""
    return replace(run, reason=Reason(ReasonCode.IN_TRAINING_DTYPE, {"dtype": run.dtype, "reason": run.reason}))


def _run_configurations(subject: _ProbeSubject, backend: str, twin: ReferenceTwin | None = None) -> Run:
    working_call, specs, traces, clock = subject.working_call, subject.specs, subject.traces, subject.clock
    reports: list[Report] = []
    notes: list[Reason] = []
    left_out: list[str] = []
    hurried: list[str] = []
    if backend != AS_IT_IS:  # each draws in its own order what is dropped
        specs = {name: spec for name, spec in specs.items() if not spec.dropping}
    if backend not in (AS_IT_IS, "reference"):
        specs = keep_first_configuration(specs)
    kernels = backend == "triton"
    measuring = Measuring(working_call, subject.hints, twin, kernels, clock.is_late)
    pace = Pace(clock)
    for name, spec in specs.items():
        paced = pace.choose_spec(spec) if reports else spec
        if paced is None:
            left_out.append(name)
            continue
        try:
            with pace.time_spec(paced):
                report, told_of_it = measuring.measure_configuration(name, paced)
                if paced.directional and not spec.directional:
                    hurried.append(name)
                if report.verdict.unsafe and paced.directional and pace.has_time(spec):
                    report, told_of_it = measuring.measure_configuration(name, spec)  # which tells how it is unsafe
                notes += told_of_it
                reports.append(report)
                traces.trace_configuration(name, spec, measured=report.verdict is not Verdict.INCONCLUSIVE)
        except Exception as error:  # the target's own forward: whatever it raises is a fact about this configuration
            if is_device_lost(error):
                raise
            notes.append(_note_not_probed(name, explain_error(error)))
            forget_compiled_code()
        if reports and reports[-1].verdict.unsafe:
            break
    notes += [_note_not_probed(name, Reason(ReasonCode.OUT_OF_TIME)) for name in left_out]
    elsewhere = list_safe_elsewhere(reports, specs, working_call.spec, hurried)
    reports = [report for report in reports if report.configuration not in elsewhere]
    if not reports:
        traces.trace_configuration(Configuration.FIRST_SIZES, working_call.spec, measured=False)
        return with_safe_elsewhere(_make_failed_run(working_call, backend, notes), elsewhere)
    if not reports[-1].verdict.unsafe and twin is None and not clock.is_late():
        reports += _measure_autocast(working_call, traces)
    run = with_safe_elsewhere(_make_run(summarise(reports, notes), backend), elsewhere)
    run = note_coverage(run, reports, specs, working_call, subject.outputs)
    affordable = subject.hints.get("maml", True) and not kernels and not clock.is_late()
    run = replace(run, maml=_try_measure_maml(working_call)) if affordable else run
    return hold_back_unfinished(run, reports, left_out)


def _note_not_probed(configuration: str, reason: Reason) -> Reason:
    return Reason(ReasonCode.NOT_PROBED_ON, {"configuration": configuration, "reason": reason})


def _measure_autocast(working_call: WorkingCall, traces: ConfigurationTraces) -> list[Report]:
    """The report of softmax attention that autocast breaks in silence, if it does."""
    if not (working_call.agrees and working_call.spec.dtype in (torch.float64, torch.float32)):
        return []
    made = working_call.make_call(replace(working_call.spec, dtype=torch.float32))
    references = attention_references(made.layout) if made.layout else []
    report = measure_under_autocast(made.compute_output, made.inputs, references, working_call.spec.seed)
    if report is None:
        return []
    traces.trace_autocast()
    return [report] if report.verdict.unsafe else []


def _try_measure_maml(working_call: WorkingCall) -> dict[str, Any] | None:
    """The MAML measurements where they can be had: they stand beside the verdict and do not decide it."""
    try:
        return measure_maml(working_call)
    except Exception:  # code that was not written for us, at sizes that were not tried before
        return None


def _make_failed_run(working_call: WorkingCall, backend: str, notes: Sequence[Reason]) -> Run:
    dtype = str(working_call.spec.dtype).removeprefix("torch.")
    reason = notes[0] if notes else Reason(ReasonCode.NOTHING_MEASURED)
    raised = reason.data.get("reason")
    error = f"{raised.data['kind']}: {raised.data['message']}" if raised and raised.code == Ground.RAISED else None
    device = working_call.spec.device
    return Run(backend, device, dtype, "", "OK", Verdict.INCONCLUSIVE, reason, error, notes=tuple(notes))


def _make_run(report: Report, backend: str) -> Run:
    return Run(
        backend=backend,
        device=report.device,
        dtype=report.dtype,
        oracle=report.oracle,
        status=str(report.status),
        verdict=report.verdict,
        reason=report.why,
        error=report.error,
        gradients={name: _null_if_infinite(block.error) for name, block in report.gradients.items()},
        blocks={
            key: {name: _null_if_infinite(getattr(block, name)) for name in ("norm", "oracle_norm", "error")}
            for key, block in report.blocks.items()
        },
        states={key: block.state for key, block in (report.gradients | report.blocks).items()},
        notes=(
            *([Reason(ReasonCode.SEEN_ON, {"configuration": report.configuration})] if report.verdict.unsafe else []),
            *report.remarks,
        ),
    )


def _null_if_infinite(number: float | None) -> float | None:
    """JSON has no infinity: a number that is not finite is null."""
    return number if number is not None and abs(number) < float("inf") else None


MAX_FORWARD_SECONDS = 0.01
"""Seconds a forward may take: the probe calls it some two hundred times, which interpreted kernels cannot afford."""


def measure_maml(working_call: WorkingCall) -> dict[str, Any] | None:
    """The MAML measurements of a target whose forward is softmax attention; None for others and for slow ones."""
    if (
        not working_call.agrees
        or working_call.spec.layout not in LAYOUTS
        or _time_forward(working_call) > MAX_FORWARD_SECONDS
    ):
        return None
    shape = working_call.spec.shape
    length = shape.queries if shape.queries == shape.keys else TaskShape().length
    report = maml_probe(
        _AttentionAdapter(working_call),
        steps=1,
        dtype=working_call.spec.dtype,
        device=working_call.spec.device,
        shape=replace(TaskShape(), length=length),
        head_dim=shape.dim,
    )
    return report.to_dict()


def _time_forward(working_call: WorkingCall) -> float:
    """Seconds; the shorter of two calls that are slow, for another process may have had the processor meanwhile."""
    made = working_call.make_call()
    times: list[float] = []
    while len(times) < 2 and min(times, default=math.inf) > MAX_FORWARD_SECONDS:
        start = time.perf_counter()
        trial(made.compute_output, made.inputs, working_call.spec.seed)
        times.append(time.perf_counter() - start)
    return min(times)


class _AttentionAdapter:
    """The target as attention of q, k, v in (B,H,T,D), whatever its own layout and other arguments are."""

    def __init__(self, working_call: WorkingCall) -> None:
        self._working_call = working_call
        self._calls: dict[tuple[int, ...], BoundCall] = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        layout = self._working_call.spec.layout
        made = self._make_sized_call((*q.shape, k.shape[-2], v.shape[-1]))
        return to_bhtd(made.compute_output(*(from_bhtd(t, layout) for t in (q, k, v))), layout)

    def _make_sized_call(self, sizes: tuple[int, ...]) -> BoundCall:
        """The call for tensors of these sizes: its other arguments may depend on them."""
        if sizes not in self._calls:
            batch, heads, queries, dim, keys, value_dim = sizes
            shape = Shape(batch, heads, queries, keys, dim, value_dim)
            spec: TrialSpec = replace(self._working_call.spec, shape=shape)
            self._calls[sizes] = self._working_call.make_call(spec)
        return self._calls[sizes]
