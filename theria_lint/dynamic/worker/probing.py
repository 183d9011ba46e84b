"""Runs one target: binds it, probes it on every base that belongs under it, and says what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from theria.attention import backend_names
from theria.probes import Report, measure
from theria.probes.derivatives import PRIMARY, SECONDARY, Route, differentiate, frozen_routes
from theria.probes.point import call, place, trial
from theria.probes.precision import relative_error
from theria.probes.sweep import attention_references, measure_under_autocast, summarise
from theria.verdicts import Verdict
from theria_lint.dynamic.protocol import Outcome, TargetRequest
from theria_lint.dynamic.worker import helps
from theria_lint.dynamic.worker.base import SELF, SdpaCalls, base_attention
from theria_lint.dynamic.worker.calling.binding import Binding, CannotCallError
from theria_lint.dynamic.worker.calling.calls import Call
from theria_lint.dynamic.worker.calling.fitness import weighed
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.compiling import uncompiled
from theria_lint.dynamic.worker.configurations import LONGER, Configurations, configurations, only_first
from theria_lint.dynamic.worker.meta import maml_of
from theria_lint.dynamic.worker.parameters import with_parameters
from theria_lint.dynamic.worker.paths import Clock, as_on_gpu, bind_anywhere, told
from theria_lint.dynamic.worker.places import Place, Places
from theria_lint.model import Run, TargetKind


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
    helps.settle()
    scenes = configurations(binding)
    places = _executed(binding, scenes, watched)
    sdpa.count = 0
    _try_once(binding)
    runs = [told(run, target) for run in _runs(binding, scenes, kind, sdpa, request.hints, clock)]
    other = as_on_gpu(target, request, device, clock)
    if other is not None:
        runs += [told(run, target) for run in _runs(other, configurations(other), kind, sdpa, request.hints, clock)]
    return Outcome(job, request.symbol, tuple(runs), places=places)


def _try_once(binding: Binding) -> None:
    made = binding.call()
    trial(made.output, made.inputs, binding.scene.seed)


def _executed(binding: Binding, scenes: Configurations, watched: Sequence[str]) -> dict[str, tuple[Place, ...]]:
    """The places that building the target, calling it and differentiating it twice execute, however it is probed.

    On a GPU autograd would run backwards in a thread of its own, which is not seen before Python 3.12.
    """
    in_this_thread = torch.autograd.set_multithreading_enabled(False)
    launched = helps.launches()
    with uncompiled(), in_this_thread, Places(watched) as places:
        for scene in scenes.values():
            _differentiate(binding, scene, lambda inputs: [PRIMARY])
        if helps.launches() == launched:
            _differentiate(binding, binding.scene, frozen_routes)
        if _is_probed_under_autocast(binding):
            with torch.autocast(binding.scene.device, dtype=torch.bfloat16):
                _differentiate(binding, replace(binding.scene, dtype=torch.float32), lambda inputs: [PRIMARY])
    return places.seen()


def _differentiate(binding: Binding, scene: Scene, routes: Callable[[Mapping[str, Tensor]], Sequence[Route]]) -> None:
    """Goes some routes in a scene, as far as the target does; where it refuses, the probe says so."""
    with suppress(Exception):
        made = binding.call(scene)
        point = place(made.inputs, trial(made.output, made.inputs, scene.seed), scene.seed)
        for route in routes(point.inputs):
            with suppress(Exception):
                differentiate(made.output, point, route)


def _runs(
    binding: Binding, scenes: Configurations, kind: TargetKind, sdpa: SdpaCalls, hints: Mapping[str, Any], clock: Clock
) -> Iterator[Run]:
    """One run as the target is, or one on each backend where an attention function belongs under it."""
    wanted = hints.get("backends", (SELF, *backend_names()))
    if kind is TargetKind.WRAPPER:
        reference = base_attention("reference")
        for backend in (name for name in backend_names() if name in wanted):
            base = base_attention(backend)
            based = replace(binding, scene=replace(binding.scene, base=base))
            on_base = {name: replace(scene, base=base) for name, scene in scenes.items()}
            yield _run(
                based, on_base, backend, hints, clock, lambda scene: binding.call(replace(scene, base=reference)).output
            )
        return
    if SELF in wanted or not sdpa.count:
        yield _run(binding, scenes, SELF, hints, clock)
    if sdpa.count:
        for backend in (name for name in backend_names() if name in wanted):
            sdpa.use(backend)
            yield _run(
                binding, scenes, backend, hints, clock, lambda scene: sdpa.on_reference(binding.call(scene).output)
            )


Twin = Callable[[Scene], Callable[..., Tensor]]
"""Makes the same target on the reference backend: the same function, and fast where the backend is interpreted."""


def _run(
    binding: Binding,
    scenes: Configurations,
    backend: str,
    hints: Mapping[str, Any],
    clock: Clock,
    twin: Twin | None = None,
) -> Run:
    reports: list[Report] = []
    notes: list[str] = []
    interpreted = backend == "triton" and binding.scene.device == "cpu"
    if interpreted:
        scenes = only_first(scenes)
    for name, scene in scenes.items():
        if reports and clock.late():
            notes.append(f"not probed on {name}: out of time")
            continue
        try:
            routes = SECONDARY[:0] if interpreted or name == LONGER else SECONDARY
            report = _measure(binding, scene, name, hints, twin, routes)
            if name == LONGER and report.verdict.unsafe:  # a long sequence is full of kinks, which few differences miss
                report = _measure(binding, scene, name, hints, twin, SECONDARY)
            reports.append(report)
        except Exception as error:  # the target's own forward: whatever it raises is a fact about this configuration
            told_first = str(error).splitlines()[0][:160] if str(error) else ""
            notes.append(f"not probed on {name}: {type(error).__name__}: {told_first}")
        if reports and reports[-1].verdict.unsafe:
            break
    if not reports:
        return _failed_run(binding, backend, notes)
    if not reports[-1].verdict.unsafe and twin is None and not clock.late():
        reports += _under_autocast(binding)
    run = _as_run(summarise(reports, notes), backend)
    affordable = hints.get("maml", True) and not interpreted and not clock.late()
    return replace(run, maml=_maml(binding)) if affordable else run


def _under_autocast(binding: Binding) -> list[Report]:
    """The report of softmax attention that autocast breaks in silence, if it does."""
    if not _is_probed_under_autocast(binding):
        return []
    made = binding.call(replace(binding.scene, dtype=torch.float32))
    references = attention_references(made.layout) if made.layout else []
    report = measure_under_autocast(made.output, made.inputs, references, binding.scene.seed)
    return [report] if report else []


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
    launched = helps.launches()
    report = measure(
        made.output,
        made.inputs,
        references=references,
        is_slow=lambda: (name == LONGER and not routes) or helps.launches() > launched,
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
