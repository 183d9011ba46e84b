"""Which places of some files a piece of code executes: not lines but expressions, for a line may hold a branch."""

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
from theria_lint.worker.find_call.call_strategy import Call
from theria_lint.worker.find_call.run_trial import Binding
from theria_lint.worker.find_call.trial_spec import Scene
from theria_lint.worker.shims import shim_log
from theria_lint.worker.shims.no_codegen import uncompiled

Place = tuple[int, int, int, int]
"""Line, column, end line and end column of an instruction: lines from 1, columns in UTF-8 bytes from 0."""

Executed = dict[CodeType, set[int]]
"""The numbers of the executed instructions, by the code that holds them."""

_INSTRUCTION = 2
"""Bytes of an instruction, in which the interpreter counts offsets."""


class Places:
    """A context manager that records what is executed of the watched files.

    Before Python 3.12 in this thread only: whoever records a backward pass has to keep it here.
    """

    def __init__(self, watched: Iterable[str], is_aside: Callable[[], bool] = lambda: False) -> None:
        """Watches files by the absolute path that their code objects carry.

        ``is_aside`` says whether what is called now is to be known from the rest.
        """
        self._executed: Executed = {}
        self._aside: Executed = {}
        self._recorder = _Recorder(frozenset(watched), lambda: self._aside if is_aside() else self._executed)

    def __enter__(self) -> Places:
        """Starts recording."""
        self._recorder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops recording."""
        self._recorder.stop()

    def seen(self) -> dict[str, tuple[Place, ...]]:
        """The places that were executed, by file, sorted."""
        return _by_file(self._executed, self._aside)

    def seen_aside(self) -> dict[str, tuple[Place, ...]]:
        """Those of them that were executed aside, perhaps among other times."""
        return _by_file(self._aside)


def _by_file(*executed: Executed) -> dict[str, tuple[Place, ...]]:
    found: dict[str, set[Place]] = {}
    for code, indices in (item for part in executed for item in part.items()):
        places = found.setdefault(code.co_filename, set())
        for index, (line, end_line, column, end_column) in enumerate(code.co_positions()):
            # The first instruction of a module stands on line 0.
            if index in indices and line and None not in (end_line, column, end_column):
                places.add((line, column, end_line, end_column))  # type: ignore[arg-type]
    return {path: tuple(sorted(places)) for path, places in found.items()}


if sys.version_info >= (3, 12):

    class _Recorder:
        """Hears of every instruction, in all threads; a trace function hears of none since Python 3.12."""

        def __init__(self, watched: frozenset[str], where: Callable[[], Executed]) -> None:
            self._watched = watched
            self._where = where

        def start(self) -> None:
            monitoring = sys.monitoring
            monitoring.use_tool_id(monitoring.COVERAGE_ID, __name__)
            monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.INSTRUCTION, self._step)
            monitoring.restart_events()
            monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.INSTRUCTION if self._watched else 0)

        def stop(self) -> None:
            monitoring = sys.monitoring
            monitoring.set_events(monitoring.COVERAGE_ID, 0)
            monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.INSTRUCTION, None)
            monitoring.free_tool_id(monitoring.COVERAGE_ID)

        def _step(self, code: CodeType, offset: int) -> Any:
            if code.co_filename not in self._watched:
                return sys.monitoring.DISABLE
            self._where().setdefault(code, set()).add(offset // _INSTRUCTION)
            return None

else:

    class _Recorder:
        """Traces the frames of the watched files in this thread, instruction by instruction."""

        def __init__(self, watched: frozenset[str], where: Callable[[], Executed]) -> None:
            self._watched = watched
            self._where = where
            self._previous: Any = None

        def start(self) -> None:
            self._previous = sys.gettrace()
            if self._watched:
                sys.settrace(self._call)

        def stop(self) -> None:
            sys.settrace(self._previous)

        def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
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


Seen = dict[str, tuple[Place, ...]]
"""Executed places, sorted, by file."""


class Traces:
    """Records the places that a target executes, configuration by configuration.

    What was executed only where no verdict came out was not measured: it says nothing for or against a suspect, and
    counts only for a target that has no verdict at all.
    """

    def __init__(self, binding: Binding, watched: Sequence[str]) -> None:
        """Watches files by their absolute paths."""
        self._binding = binding
        self._watched = watched
        self._traced: dict[str, Places] = {}
        self._measured: set[str] = set()

    def add(self, name: str, scene: Scene, *, measured: bool) -> None:
        """Traces a configuration, once; ``measured``: whether probing it gave a verdict."""
        if name not in self._traced:
            self._traced[name] = self._trace(scene, nullcontext())
        if measured:
            self._measured.add(name)

    def add_autocast(self) -> None:
        """Traces what runs under autocast, where that was measured."""
        scene = replace(self._binding.scene, dtype=torch.float32)
        self._traced["autocast"] = self._trace(scene, torch.autocast(scene.device, dtype=torch.bfloat16))
        self._measured.add("autocast")

    def seen(self) -> Seen:
        """The places that were executed."""
        return merged(self._traced[name].seen() for name in self._measured or self._traced)

    def seen_aside(self) -> Seen:
        """Those that were executed in a backward, or where no graph was recorded.

        The first derivative need not show what they do to the second.
        """
        return merged(self._traced[name].seen_aside() for name in self._measured or self._traced)

    def _trace(self, scene: Scene, around: AbstractContextManager[object]) -> Places:
        """Builds the target, calls it and differentiates it twice, the first time by other routes too.

        On a GPU autograd would run backwards in a thread of its own, which is not seen before Python 3.12.
        """
        in_this_thread = torch.autograd.set_multithreading_enabled(False)
        launched, stage = shim_log.launches(), _Stage()
        watched = self._watched_call(scene)
        with uncompiled(), in_this_thread, around, Places(self._watched, stage.is_aside) as places, suppress(Exception):
            made = watched or self._binding.call(scene)
            point = place(made.inputs, trial(made.output, made.inputs, scene.seed), scene.seed)
            function = stage.forward(made.output)
            stage.differentiating = True
            _differentiate(function, point, [PRIMARY])
            if not self._traced and shim_log.launches() == launched:
                _differentiate(function, point, [*frozen_routes(point.inputs), _CONSTANT_COTANGENT])
        return places

    def _watched_call(self, scene: Scene) -> Call | None:
        """The call that another function makes: what that executes is none of the target's code, as its building is."""
        with suppress(Exception):  # code that was not written for us
            return self._binding.call(scene) if self._binding.way.watched else None
        return None


@dataclass
class _Stage:
    """Whether a forward runs, or what differentiates it."""

    differentiating: bool = False

    def is_aside(self) -> bool:
        return self.differentiating or not torch.is_grad_enabled()

    def forward(self, function: Function) -> Function:
        """The same function, known as a forward while it runs."""

        def known(*arguments: Tensor) -> Tensor:
            self.differentiating = False
            try:
                return function(*arguments)
            finally:
                self.differentiating = True

        return known


_CONSTANT_COTANGENT = Route("grad", "grad", False)


def _differentiate(function: Function, point: Point, routes: Iterable[Route]) -> None:
    """Goes some routes as far as the target does; where it refuses, the probe says so."""
    for route in routes:
        with suppress(Exception):
            differentiate(function, point, route)


def merged(traced: Iterable[Seen]) -> Seen:
    """What several traces saw."""
    found: dict[str, set[Place]] = {}
    for seen in traced:
        for path, places in seen.items():
            found.setdefault(path, set()).update(places)
    return {path: tuple(sorted(places)) for path, places in found.items()}
