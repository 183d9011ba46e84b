"""Runs one target: binds it, probes it on every base that belongs under it, and says what came out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from theria.attention.registry import backend_names
from theria.maml import TaskShape
from theria.maml.probe import maml_probe
from theria.probes.derivatives import SECONDARY, Route
from theria.probes.layouts import LAYOUTS, from_bhtd, to_bhtd
from theria.probes.measure import measure
from theria.probes.point import call, trial
from theria.probes.qkv import Shape
from theria.probes.report import Report
from theria.probes.rounding import relative_error
from theria.probes.sweep import attention_references, measure_under_autocast, summarise
from theria.verdicts import Verdict
from theria_lint.confirm.protocol import MATH_PATH, OUT_OF_TIME, Outcome, TargetRequest
from theria_lint.model import Run, TargetKind
from theria_lint.worker.base_attention import SELF, SdpaCalls, base_attention
from theria_lint.worker.configurations import (
    LONGER,
    Configurations,
    configurations,
    fused_scenes,
    only_first,
    training_scenes,
)
from theria_lint.worker.device_fallback import Clock, as_on_gpu, bind_anywhere, on_cpu_path, told
from theria_lint.worker.discontinuity import judged_beyond_jumps
from theria_lint.worker.find_call.call_strategy import Call
from theria_lint.worker.find_call.run_trial import Binding, CannotCallError, weighed
from theria_lint.worker.find_call.trial_spec import Scene
from theria_lint.worker.parameter_vector import with_parameters
from theria_lint.worker.shims import shim_log
from theria_lint.worker.shims.no_codegen import forget_compiled_code
from theria_lint.worker.torch_bugs import judged_fairly
from theria_lint.worker.trace import Traces, merged


def run_target(
    target: Any, request: TargetRequest, *, job: int, device: str, watched: Sequence[str], clock: Clock
) -> Outcome:
    """Probes a target and reports its runs, or the reason why it could not be called."""
    kind = TargetKind(request.kind)
    sdpa = SdpaCalls()
    sdpa.install()
    try:
        binding = bind_anywhere(target, request, device, clock.left)
    except CannotCallError as error:
        return Outcome(job, request.symbol, reason=f"no way to call it worked: {error}")
    shim_log.settle()
    forget_compiled_code()
    subjects = [_Subject(binding, configurations(binding), Traces(binding, watched), request.hints, clock)]
    runs = [told(run, target) for run in _runs(subjects[0], kind, sdpa)]
    other, refusal = as_on_gpu(target, request, device, clock)
    runs = [on_cpu_path(run, refusal) for run in runs]
    if other is not None:
        subjects.append(
            replace(subjects[0], binding=other, scenes=configurations(other), traces=Traces(other, watched))
        )
        runs += [told(run, target) for run in _runs(subjects[1], kind, sdpa)]
    places = merged(subject.traces.seen() for subject in subjects)
    aside = merged(subject.traces.seen_aside() for subject in subjects)
    return Outcome(job, request.symbol, tuple(runs), places=places, aside=aside)


@dataclass(frozen=True)
class _Subject:
    """A target that can be called, what it is probed in, what it has executed there, and what limits the probe."""

    binding: Binding
    scenes: Configurations
    traces: Traces
    hints: Mapping[str, Any]
    clock: Clock


def _runs(subject: _Subject, kind: TargetKind, sdpa: SdpaCalls) -> Iterator[Run]:
    """One run as the target is, and one on each backend where an attention function belongs under it."""
    binding = subject.binding
    backends = [name for name in backend_names() if name in subject.hints.get("backends", backend_names())]
    if kind is TargetKind.WRAPPER:
        reference = base_attention("reference")
        for backend in backends:
            base = base_attention(backend)
            scenes = {name: replace(scene, base=base) for name, scene in subject.scenes.items()}
            based = replace(subject, binding=replace(binding, scene=replace(binding.scene, base=base)), scenes=scenes)
            yield _run(based, backend, lambda scene: binding.call(replace(scene, base=reference)).output)
        return
    sdpa.use(SELF)
    sdpa.count = sdpa.fused = 0
    run = _run(subject, SELF)
    if binding.scene.device != "cpu" and run.verdict is Verdict.SAFE:
        run = _in_training_dtypes(subject, run)
    if sdpa.count and not sdpa.fused and run.verdict is Verdict.SAFE:
        run = _where_fused(subject, sdpa) or replace(run, notes=(*run.notes, MATH_PATH))
    yield run
    for backend in backends if sdpa.count else ():
        sdpa.use(backend)
        yield _run(subject, backend, lambda scene: sdpa.on_reference(binding.call(scene).output))


def _in_training_dtypes(subject: _Subject, run: Run) -> Run:
    """A safe run on a GPU or, where it is unsafe in a precision that people train in, that one.

    What is dispatched there depends on the precision: few kernels are written for float64, in which all is well.
    """
    notes: list[str] = []
    for name, scene in training_scenes(subject.binding).items():
        found = _run(replace(subject, scenes={name: scene}), SELF)
        if found.verdict.unsafe:
            return replace(found, reason=f"in {found.dtype} {found.reason}")
        told = found.error if found.verdict is Verdict.INCONCLUSIVE else None
        notes.append(f"in {found.dtype}: {found.verdict}{f' ({told})' if told else ''}")
    return replace(run, notes=(*run.notes, *notes))


def _where_fused(subject: _Subject, sdpa: SdpaCalls) -> Run | None:
    """The run with sizes at which a fused kernel makes the target unsafe, if there are any."""
    scenes = fused_scenes(subject.binding, sdpa)
    run = _run(replace(subject, scenes=scenes), SELF) if scenes else None
    return run if run is not None and run.verdict.unsafe else None


Twin = Callable[[Scene], Callable[..., Tensor]]
"""Makes the same target on the reference backend: the same function, and fast where the backend is interpreted."""


def _run(subject: _Subject, backend: str, twin: Twin | None = None) -> Run:
    binding, scenes, traces, clock = subject.binding, subject.scenes, subject.traces, subject.clock
    reports: list[Report] = []
    notes: list[str] = []
    interpreted = backend == "triton" and binding.scene.device == "cpu"
    if interpreted:
        scenes = only_first(scenes)
    for name, scene in scenes.items():
        if reports and clock.late():
            notes.append(f"not probed on {name}: {OUT_OF_TIME}")
            continue
        try:
            report, told_of_it = _judged(subject, name, scene, twin, interpreted)
            notes += told_of_it
            reports.append(report)
            traces.add(name, scene, measured=report.verdict is not Verdict.INCONCLUSIVE)
        except Exception as error:  # the target's own forward: whatever it raises is a fact about this configuration
            told_first = str(error).splitlines()[0][:160] if str(error) else ""
            notes.append(f"not probed on {name}: {type(error).__name__}: {told_first}")
            forget_compiled_code()
        if reports and reports[-1].verdict.unsafe:
            break
    if not reports:
        traces.add("what worked", binding.scene, measured=False)
        return _failed_run(binding, backend, notes)
    if not reports[-1].verdict.unsafe and twin is None and not clock.late():
        reports += _under_autocast(binding, traces)
    run = _as_run(summarise(reports, notes), backend)
    affordable = subject.hints.get("maml", True) and not interpreted and not clock.late()
    return replace(run, maml=_maml(binding)) if affordable else run


def _judged(
    subject: _Subject, name: str, scene: Scene, twin: Twin | None, interpreted: bool
) -> tuple[Report, list[str]]:
    """The report on one configuration, and what is to be told beside it."""

    def measured(scene: Scene = scene, routes: Sequence[Route] = SECONDARY) -> Report:
        return _measure(subject.binding, scene, name, subject.hints, twin, routes)

    report = measured(routes=SECONDARY[:0] if interpreted or name == LONGER else SECONDARY)
    if name == LONGER and report.verdict.unsafe:  # a long sequence is full of kinks, which few differences miss
        report = measured()
    report = judged_beyond_jumps(report, scene, subject.binding, measured)
    return judged_fairly(report, subject.binding.call(scene), scene.seed, measured)


def _under_autocast(binding: Binding, traces: Traces) -> list[Report]:
    """The report of softmax attention that autocast breaks in silence, if it does."""
    if not _is_probed_under_autocast(binding):
        return []
    made = binding.call(replace(binding.scene, dtype=torch.float32))
    references = attention_references(made.layout) if made.layout else []
    report = measure_under_autocast(made.output, made.inputs, references, binding.scene.seed)
    if report is None:
        return []
    traces.add_autocast()
    return [report] if report.verdict.unsafe else []


def _is_probed_under_autocast(binding: Binding) -> bool:
    return binding.agrees and binding.scene.dtype in (torch.float64, torch.float32)


def _maml(binding: Binding) -> dict[str, Any] | None:
    """The MAML measurements where they can be had: they stand beside the verdict and do not decide it."""
    try:
        return maml_of(binding)
    except Exception:  # code that was not written for us, at sizes that were not tried before
        return None


def _measure(
    binding: Binding, scene: Scene, name: str, hints: Mapping[str, Any], twin: Twin | None, routes: Sequence[Route]
) -> Report:
    made = binding.call(scene)
    if scene.strided and not _same_output(binding, scene, made):
        raise ValueError("it gives another output for strided inputs")
    references = (
        attention_references(made.layout) if made.layout and hints.get("oracle") != "finite differences" else []
    )
    launched = shim_log.launches()
    report = measure(
        made.output,
        made.inputs,
        references=references,
        is_slow=lambda: (name == LONGER and not routes) or (scene.device == "cpu" and shim_log.launches() > launched),
        twin=twin(scene) if twin else None,
        routes=routes,
        seed=scene.seed,
        configuration=name,
    )
    report = weighed(report, hints.get("oracle"))
    # What is said of a variant is held against the same of the file as it is: it takes no more than the verdict.
    return with_parameters(made, scene, report, both=hints.get("maml", True)) if routes else report


def _same_output(binding: Binding, scene: Scene, made: Call) -> bool:
    plain = binding.call(replace(scene, strided=False))
    outputs = [call(c.output, c.inputs, scene.seed) for c in (plain, made)]
    return outputs[0].shape == outputs[1].shape and relative_error(outputs[1], outputs[0]) < 1e-2


def _failed_run(binding: Binding, backend: str, notes: Sequence[str]) -> Run:
    dtype = str(binding.scene.dtype).removeprefix("torch.")
    reason = notes[0] if notes else "nothing was measured"
    return Run(backend, binding.scene.device, dtype, "", "OK", Verdict.INCONCLUSIVE, error=reason, notes=tuple(notes))


def _as_run(report: Report, backend: str) -> Run:
    return Run(
        backend=backend,
        device=report.device,
        dtype=report.dtype,
        oracle=report.oracle,
        status=str(report.status),
        verdict=report.verdict,
        reason=report.reason,
        error=report.error,
        gradients={name: _finite(block.error) for name, block in report.gradients.items()},
        blocks={
            key: {name: _finite(getattr(block, name)) for name in ("norm", "oracle_norm", "error")}
            for key, block in report.blocks.items()
        },
        states={key: block.state for key, block in (report.gradients | report.blocks).items()},
        notes=(*([f"seen on {report.configuration}"] if report.verdict.unsafe else []), *report.notes),
    )


def _finite(number: float | None) -> float | None:
    """JSON has no infinity: a number that is not finite is null."""
    return number if number is not None and abs(number) < float("inf") else None


SLOWEST = 0.01
"""Seconds a forward may take: the probe calls it some two hundred times, which interpreted kernels cannot afford."""


def maml_of(binding: Binding) -> dict[str, Any] | None:
    """The MAML measurements of a target whose forward is softmax attention; None for others and for slow ones."""
    if not binding.agrees or binding.scene.layout not in LAYOUTS or _forward_time(binding) > SLOWEST:
        return None
    shape = binding.scene.shape
    length = shape.queries if shape.queries == shape.keys else TaskShape().length
    report = maml_probe(
        _Attention(binding),
        steps=1,
        dtype=binding.scene.dtype,
        device=binding.scene.device,
        shape=replace(TaskShape(), length=length),
        head_dim=shape.dim,
    )
    return report.to_dict()


def _forward_time(binding: Binding) -> float:
    """Seconds; the shorter of two calls that are slow, for another process may have had the processor meanwhile."""
    made = binding.call()
    times: list[float] = []
    while len(times) < 2 and min(times, default=math.inf) > SLOWEST:
        start = time.perf_counter()
        trial(made.output, made.inputs, binding.scene.seed)
        times.append(time.perf_counter() - start)
    return min(times)


class _Attention:
    """The target as attention of q, k, v in (B,H,T,D), whatever its own layout and other arguments are."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._calls: dict[tuple[int, ...], Call] = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        layout = self._binding.scene.layout
        made = self._made((*q.shape, k.shape[-2], v.shape[-1]))
        return to_bhtd(made.output(*(from_bhtd(t, layout) for t in (q, k, v))), layout)

    def _made(self, sizes: tuple[int, ...]) -> Call:
        """The call for tensors of these sizes: its other arguments may depend on them."""
        if sizes not in self._calls:
            batch, heads, queries, dim, keys, value_dim = sizes
            shape = Shape(batch, heads, queries, keys, dim, value_dim)
            scene: Scene = replace(self._binding.scene, shape=shape)
            self._calls[sizes] = self._binding.call(scene)
        return self._calls[sizes]
