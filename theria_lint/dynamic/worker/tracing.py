"""What a target executes in the configurations in which it was measured: a suspect in no other place is judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace

import torch

from theria.probes.derivatives import PRIMARY, Route, differentiate, frozen_routes
from theria.probes.point import Function, Point, place, trial
from theria_lint.dynamic.worker import helps
from theria_lint.dynamic.worker.calling.binding import Binding
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.compiling import uncompiled
from theria_lint.dynamic.worker.places import Place, Places

Executed = dict[str, tuple[Place, ...]]
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
        self._traced: dict[str, Executed] = {}
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

    def seen(self) -> Executed:
        """The places that were executed."""
        return merged(self._traced[name] for name in self._measured or self._traced)

    def _trace(self, scene: Scene, around: AbstractContextManager[object]) -> Executed:
        """Builds the target, calls it and differentiates it twice, the first time by other routes too.

        On a GPU autograd would run backwards in a thread of its own, which is not seen before Python 3.12.
        """
        in_this_thread = torch.autograd.set_multithreading_enabled(False)
        launched = helps.launches()
        with uncompiled(), in_this_thread, around, Places(self._watched) as places, suppress(Exception):
            made = self._binding.call(scene)
            point = place(made.inputs, trial(made.output, made.inputs, scene.seed), scene.seed)
            _differentiate(made.output, point, [PRIMARY])
            if not self._traced and helps.launches() == launched:
                _differentiate(made.output, point, [*frozen_routes(point.inputs), _CONSTANT_COTANGENT])
        return places.seen()


_CONSTANT_COTANGENT = Route("grad", "grad", False)


def _differentiate(function: Function, point: Point, routes: Iterable[Route]) -> None:
    """Goes some routes as far as the target does; where it refuses, the probe says so."""
    for route in routes:
        with suppress(Exception):
            differentiate(function, point, route)


def merged(traced: Iterable[Executed]) -> Executed:
    """What several traces saw."""
    found: dict[str, set[Place]] = {}
    for executed in traced:
        for path, places in executed.items():
            found.setdefault(path, set()).update(places)
    return {path: tuple(sorted(places)) for path, places in found.items()}
