"""Further ways in which a target that was called can be called: branches of it that plain q, k and v do not take."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from theria.probes.layouts import (
    LAYOUTS,
    PACKED,
    SHARED,
    from_bhtd,
    key_layout,
    query_layout,
    sequence_lengths,
    to_bhtd,
)
from theria.probes.point import trial
from theria.probes.precision import relative_error
from theria_lint.dynamic.worker.calling.packing import takes_one_length
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.search import Binding, CannotCallError, Search
from theria_lint.dynamic.worker.calling.signatures import QKV

_BUDGET = 2.0
"""Seconds after which no further layout of a variant is tried."""

_SAME = 1e-3
"""The relative difference up to which a variant computes what the plain call does."""


def variants(binding: Binding) -> dict[str, Scene]:
    """Scenes in which the target runs otherwise, by what is said of them.

    Sequences of different lengths laid end to end, where optional arguments tell their ends; and heads of q that share
    those of k and v, where its text speaks of such. What it computes there has to be what it computes for each
    sequence alone, and for keys that are repeated: else it was not called as it wants to be.
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
    """The first scene in which the target runs and computes the same."""
    search = Search(time.monotonic() + _BUDGET)
    try:
        for scene in scenes:
            found = search.attempt(binding.way, scene)
            if found is not None and (found.agrees or (not binding.agrees and _computes_the_same(binding, found))):
                return scene
    except CannotCallError:  # out of time
        pass
    return None


def _computes_the_same(plain: Binding, found: Binding) -> bool:
    """Whether a variant gives what the plain call gives, part by part; packed gates and the like are taken on trust."""
    made, scene = found.call(), found.scene
    if list(made.inputs) != list(QKV):
        return scene.packed
    keys = key_layout(scene.layout)
    q, k, v = (to_bhtd(made.inputs[n], keys if n != "q" else query_layout(scene.layout)) for n in QKV)
    if not scene.packed:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    parts = [torch.split(t, sequence_lengths(t.shape[2]) if scene.packed else t.shape[2], 2) for t in (q, k, v)]
    try:
        outputs = [_plainly(plain, *part) for part in zip(*parts, strict=True)]
    except Exception:  # code that was not written for us, at sizes that were not tried before
        return False
    output = to_bhtd(trial(made.output, made.inputs, scene.seed), query_layout(scene.layout))
    return relative_error(output, torch.cat(outputs, 2)) < _SAME


def _plainly(binding: Binding, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The output (B,H,T,Dv) of the plain call for q (B,H,T,D), k and v."""
    batch, heads, queries, dim = q.shape
    shape = replace(binding.scene.shape, batch=batch, heads=heads, queries=queries, keys=k.shape[2], dim=dim)
    scene = replace(binding.scene, shape=shape)
    inputs = {n: from_bhtd(t, scene.layout).contiguous() for n, t in zip(QKV, (q, k, v), strict=True)}
    return to_bhtd(trial(binding.call(scene).output, inputs, scene.seed), scene.layout)
