"""What a target executes in the configurations in which it was measured: a suspect in no other place is judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from theria.probes.derivatives import PRIMARY, Route, differentiate, frozen_routes
from theria.probes.point import Function, Point, place, trial
from theria_lint.dynamic.worker import helps
from theria_lint.dynamic.worker.calling.binding import Binding
from theria_lint.dynamic.worker.calling.calls import Call
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.compiling import uncompiled
from theria_lint.dynamic.worker.places import Place, Places

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
        launched, stage = helps.launches(), _Stage()
        watched = self._watched_call(scene)
        with uncompiled(), in_this_thread, around, Places(self._watched, stage.is_aside) as places, suppress(Exception):
            made = watched or self._binding.call(scene)
            point = place(made.inputs, trial(made.output, made.inputs, scene.seed), scene.seed)
            function = stage.forward(made.output)
            stage.differentiating = True
            _differentiate(function, point, [PRIMARY])
            if not self._traced and helps.launches() == launched:
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
