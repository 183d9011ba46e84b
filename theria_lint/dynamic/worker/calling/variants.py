"""Further ways in which a target that was called can be called: branches of it that plain q, k and v do not take."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from theria.probes.layouts import LAYOUTS, PACKED, SHARED, query_layout
from theria_lint.dynamic.worker.calling.layouts import gives_expected
from theria_lint.dynamic.worker.calling.packing import takes_one_length
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.search import Binding, CannotCallError, Search

_BUDGET = 2.0
"""Seconds after which no further layout of a variant is tried."""


def variants(binding: Binding) -> dict[str, Scene]:
    """Scenes in which the target runs otherwise, by what is said of them.

    Sequences of different lengths laid end to end, where optional arguments tell their ends; and heads of q that share
    those of k and v, where its text speaks of such.
    """
    scene, found = binding.scene, {}
    if binding.way.packs and not scene.packed:
        likely = sorted(PACKED, key=lambda name: PACKED[name] != scene.layout)
        found["packed sequences"] = _first(binding, [_packed(binding, name) for name in likely])
    if binding.way.shares and scene.layout in LAYOUTS:
        shape = replace(scene.shape, heads=2 * scene.shape.heads)
        names = [name for name in SHARED if query_layout(name) == scene.layout and "g" in name]
        found["shared keys"] = _first(binding, [replace(scene, layout=name, shape=shape) for name in names])
    return {name: scene for name, scene in found.items() if scene is not None}


def _packed(binding: Binding, layout: str) -> Scene:
    """The scene in a packed layout, with keys as long as queries unless both have their own ends."""
    scene, way = binding.scene, binding.way
    keys = scene.shape.queries if takes_one_length((*way.free, *way.optional)) else scene.shape.keys
    return replace(scene, layout=layout, shape=replace(scene.shape, keys=keys))


def _first(binding: Binding, scenes: Iterable[Scene]) -> Scene | None:
    """The first scene in which the target agrees with attention, else the first in which it gives attention's shape."""
    search, other = Search(time.monotonic() + _BUDGET), None
    try:
        for scene in scenes:
            found = search.attempt(binding.way, scene)
            if found is not None and found.agrees:
                return scene
            if found is not None and other is None and gives_expected(found):
                other = scene
    except CannotCallError:  # out of time
        pass
    return other
