"""Record which expressions of some files are executed, and which of them in a backward.

Spans and not lines: one line may hold a branch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from types import CodeType, FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor

from theria.probes.derivatives import PRIMARY, Route, differentiate, frozen_routes
from theria.probes.point import Function, Point, place, trial
from theria_lint.worker.find_call.call_strategy import BoundCall, TrialSpec
from theria_lint.worker.find_call.run_trial import WorkingCall
from theria_lint.worker.shims.no_codegen import run_uncompiled

ExecutedSpan = tuple[int, int, int, int]
"""Line, column, end line and end column of an instruction: lines from 1, columns in UTF-8 bytes from 0."""

ExecutedInstructions = dict[CodeType, set[int]]
"""The numbers of the executed instructions, by the code that holds them."""

_INSTRUCTION = 2
"""Bytes of an instruction, in which the interpreter counts offsets."""


class SpanRecorder:
    """A context manager that records what is executed of the watched files.

    Before Python 3.12 in this thread only: whoever records a backward pass has to keep it here.
    """

    def __init__(self, watched: Iterable[str], is_aside: Callable[[], bool] = lambda: False) -> None:
        """Watch files by the absolute path that their code objects carry.

        ``is_aside`` says whether what is called now is to be known from the rest.
        """
        self._executed: ExecutedInstructions = {}
        self._aside: ExecutedInstructions = {}
        self._recorder = _InstructionRecorder(frozenset(watched), lambda: self._aside if is_aside() else self._executed)

    def __enter__(self) -> SpanRecorder:
        """Start recording."""
        self._recorder.start_recording()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop recording."""
        self._recorder.stop_recording()

    def settle_call(self, made: BoundCall, seed: int) -> None:
        """Have a module's first call behind it: it is checked by others, with other states, which are not recorded."""
        if made.module is None:
            return
        self._recorder.stop_recording()
        try:
            with suppress(Exception):  # what raises here raises once more where it is recorded
                trial(made.compute_output, made.inputs, seed)
        finally:
            self._recorder.start_recording()

    def list_instructions(self) -> set[tuple[CodeType, int]]:
        """The instructions that were executed, each by its code and its number there."""
        return {(code, i) for part in (self._executed, self._aside) for code, found in part.items() for i in found}

    def list_spans(self) -> dict[str, tuple[ExecutedSpan, ...]]:
        """The places that were executed, by file, sorted."""
        return _group_spans_by_file(self._executed, self._aside)

    def list_backward_spans(self) -> dict[str, tuple[ExecutedSpan, ...]]:
        """Those of them that were executed aside, perhaps among other times."""
        return _group_spans_by_file(self._aside)


def _group_spans_by_file(*executed: ExecutedInstructions) -> dict[str, tuple[ExecutedSpan, ...]]:
    found: dict[str, set[ExecutedSpan]] = {}
    for code, indices in (item for part in executed for item in part.items()):
        spans = found.setdefault(code.co_filename, set())
        for index, (line, end_line, column, end_column) in enumerate(code.co_positions()):
            # The first instruction of a module stands on line 0.
            if index in indices and line and None not in (end_line, column, end_column):
                spans.add((line, column, end_line, end_column))  # type: ignore[arg-type]
    return {path: tuple(sorted(spans)) for path, spans in found.items()}


if sys.version_info >= (3, 12):

    class _MonitoringRecorder:
        """Hears of every instruction, in all threads; a trace function hears of none since Python 3.12."""

        def __init__(self, watched: frozenset[str], where: Callable[[], ExecutedInstructions]) -> None:
            self._watched = watched
            self._where = where

        def start_recording(self) -> None:
            monitoring = sys.monitoring
            monitoring.use_tool_id(monitoring.COVERAGE_ID, __name__)
            monitoring.register_callback(
                monitoring.COVERAGE_ID, monitoring.events.INSTRUCTION, self._record_instruction
            )
            monitoring.restart_events()
            monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.INSTRUCTION if self._watched else 0)

        def stop_recording(self) -> None:
            monitoring = sys.monitoring
            monitoring.set_events(monitoring.COVERAGE_ID, 0)
            monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.INSTRUCTION, None)
            monitoring.free_tool_id(monitoring.COVERAGE_ID)

        def _record_instruction(self, code: CodeType, offset: int) -> Any:
            if code.co_filename not in self._watched:
                return sys.monitoring.DISABLE
            self._where().setdefault(code, set()).add(offset // _INSTRUCTION)
            return None

    _InstructionRecorder = _MonitoringRecorder

else:

    class _SettraceRecorder:
        """Traces the frames of the watched files in this thread, instruction by instruction."""

        def __init__(self, watched: frozenset[str], where: Callable[[], ExecutedInstructions]) -> None:
            self._watched = watched
            self._where = where
            self._previous: Any = None

        def start_recording(self) -> None:
            self._previous = sys.gettrace()
            if self._watched:
                sys.settrace(self._trace_call)

        def stop_recording(self) -> None:
            sys.settrace(self._previous)

        def _trace_call(self, frame: FrameType, event: str, argument: Any) -> Any:
            code = frame.f_code
            if code.co_filename not in self._watched:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            executed = self._where().setdefault(code, set())

            def step(frame: FrameType, event: str, argument: Any) -> Any:
                if event == "opcode":
                    executed.add(frame.f_lasti // _INSTRUCTION)
                return step

            return step

    _InstructionRecorder = _SettraceRecorder


SpansByFile = dict[str, tuple[ExecutedSpan, ...]]
"""Executed places, sorted, by file."""


class ConfigurationTraces:
    """Records the places that a target executes, configuration by configuration.

    What was executed only where no verdict came out was not measured: it says nothing for or against a suspect, and
    counts only for a target that has no verdict at all.
    """

    def __init__(self, working_call: WorkingCall, watched: Sequence[str]) -> None:
        """Watch files by their absolute paths."""
        self._working_call = working_call
        self._watched = watched
        self._traced: dict[str, SpanRecorder] = {}
        self._measured: set[str] = set()

    def trace_configuration(self, name: str, spec: TrialSpec, *, measured: bool) -> None:
        """Trace a configuration, once; ``measured``: whether probing it gave a verdict."""
        if name not in self._traced:
            self._traced[name] = self._trace_derivatives(spec, nullcontext())
        if measured:
            self._measured.add(name)

    def trace_autocast(self) -> None:
        """Trace what runs under autocast, where that was measured."""
        spec = replace(self._working_call.spec, dtype=torch.float32)
        self._traced["autocast"] = self._trace_derivatives(spec, torch.autocast(spec.device, dtype=torch.bfloat16))
        self._measured.add("autocast")

    def list_spans(self) -> SpansByFile:
        """The places that were executed."""
        return merge_spans(self._traced[name].list_spans() for name in self._measured or self._traced)

    def list_backward_spans(self) -> SpansByFile:
        """Those that were executed in a backward, or where no graph was recorded.

        The first derivative need not show what they do to the second.
        """
        return merge_spans(self._traced[name].list_backward_spans() for name in self._measured or self._traced)

    def _trace_derivatives(self, spec: TrialSpec, around: AbstractContextManager[object]) -> SpanRecorder:
        """Build the target, call it and differentiate it twice, the first time by other routes too.

        On a GPU autograd would run backwards in a thread of its own, which is not seen before Python 3.12.
        """
        in_this_thread = torch.autograd.set_multithreading_enabled(False)
        launched, stage = self._working_call.log.count_launches(), _DifferentiationStage()
        watched = self._make_watched_call(spec)
        with (
            run_uncompiled(),
            in_this_thread,
            around,
            SpanRecorder(self._watched, stage.is_outside_forward) as spans,
            suppress(Exception),
        ):
            made = watched or self._working_call.make_call(spec)
            spans.settle_call(made, spec.seed)
            point = place(made.inputs, trial(made.compute_output, made.inputs, spec.seed), spec.seed)
            function = stage.mark_forward(made.compute_output)
            stage.differentiating = True
            _differentiate_by_routes(function, point, [PRIMARY])
            if not self._traced and self._working_call.log.count_launches() == launched:
                _differentiate_by_routes(function, point, [*frozen_routes(point.inputs), _CONSTANT_COTANGENT])
        return spans

    def _make_watched_call(self, spec: TrialSpec) -> BoundCall | None:
        """The call that another function makes: what that executes is none of the target's code, as its building is."""
        with suppress(Exception):  # code that was not written for us
            return self._working_call.make_call(spec) if self._working_call.strategy.watched else None
        return None


@dataclass
class _DifferentiationStage:
    """Whether a forward runs, or what differentiates it."""

    differentiating: bool = False

    def is_outside_forward(self) -> bool:
        return self.differentiating or not torch.is_grad_enabled()

    def mark_forward(self, function: Function) -> Function:
        """The same function, known as a forward while it runs."""

        def known(*arguments: Tensor) -> Tensor:
            self.differentiating = False
            try:
                return function(*arguments)
            finally:
                self.differentiating = True

        return known


_CONSTANT_COTANGENT = Route("grad", "grad", False)


def _differentiate_by_routes(function: Function, point: Point, routes: Iterable[Route]) -> None:
    """Go some routes as far as the target does; where it refuses, the probe says so."""
    for route in routes:
        with suppress(Exception):
            differentiate(function, point, route)


def merge_spans(traced: Iterable[SpansByFile]) -> SpansByFile:
    """What several traces saw."""
    found: dict[str, set[ExecutedSpan]] = {}
    for seen in traced:
        for path, spans in seen.items():
            found.setdefault(path, set()).update(spans)
    return {path: tuple(sorted(spans)) for path, spans in found.items()}
