"""Further ways in which a target that was called can be called: branches of it that plain q, k and v do not take."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
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
from theria.probes.rounding import relative_error
from theria_lint.worker.find_call.call_strategy import Call, outputs
from theria_lint.worker.find_call.run_trial import Binding, CannotCallError, Search
from theria_lint.worker.find_call.signatures import QKV
from theria_lint.worker.find_call.trial_spec import Scene
from theria_lint.worker.find_call.varlen import takes_one_length
from theria_lint.worker.shims import shim_log

_BUDGET = 2.0
"""Seconds after which no further layout of a variant is tried."""

_OPTIONAL = re.compile(r"mask|bias|slopes|alibi|len(s|gths)$|seqlens$|(segment|seq|position)_ids|sinks?$|^(cos|sin)$")
"""What the names of optional arguments look like that change what a function computes of q, k and v."""

_WITH_VALUE = range(2, 6)
"""The choices of an optional argument that give it a value: before them come the default and None."""

_SAME = 1e-3
"""The relative difference up to which a variant computes what the plain call does."""


def variants(binding: Binding) -> dict[str, Scene]:
    """Scenes in which a function runs otherwise, by what is said of them.

    Sequences of different lengths laid end to end, where optional arguments tell their ends; and heads of q that share
    those of k and v, where its text speaks of such. What it computes there has to be what it computes for each
    sequence alone, and for keys that are repeated: else it was not called as it wants to be. And the optional masks,
    lengths and biases of a function, as far as they go together.
    """
    made, scene, found = binding.call(), binding.scene, dict[str, Scene | None]()
    if made.module is not None:
        return {}
    slow = _is_interpreted(made, scene)
    if binding.way.packs and not scene.packed:
        likely = sorted(PACKED, key=lambda name: PACKED[name] != scene.layout)
        found["packed sequences"] = _first(binding, [_packed(binding, name) for name in likely], slow)
    if binding.way.shares and scene.layout in LAYOUTS:
        shape = replace(scene.shape, heads=2 * scene.shape.heads)
        names = [name for name in SHARED if query_layout(name) == scene.layout and "g" in name]
        found["shared keys"] = _first(binding, [replace(scene, layout=name, shape=shape) for name in names], slow)
    if binding.way.optional and not slow:
        found |= _with_arguments(binding)
    return {name: scene for name, scene in found.items() if scene is not None}


def _with_arguments(binding: Binding) -> dict[str, Scene]:
    """The scene with as many optional masks, lengths and the like as run together, each of which changes the output."""
    search, scene, names = Search(time.monotonic() + _BUDGET), binding.scene, list[str]()
    before = binding
    try:
        for name in (n for n in binding.way.optional if _OPTIONAL.search(n) and not binding.way.choice.get(n)):
            chosen = (replace(scene, choice={**scene.choice, name: index}) for index in _WITH_VALUE)
            tried = (search.attempt(binding.way, other) for other in chosen)
            found = next((b for b in tried if b is not None and _differ(before, b)), None)
            if found is not None:
                before, scene = found, found.scene
                names.append(name)
    except CannotCallError:  # out of time
        pass
    return {f"its optional {', '.join(names)}": scene} if names else {}


def _differ(one: Binding, other: Binding) -> bool:
    """Whether two calls give different numbers in the same shape."""
    before, after = outputs((one.call(), other.call()), one.scene.seed)
    return before.shape == after.shape and not torch.equal(before, after)


def _packed(binding: Binding, layout: str) -> Scene:
    """The scene in a packed layout, with keys as long as queries unless both have their own ends."""
    scene, way = binding.scene, binding.way
    keys = scene.shape.queries if takes_one_length((*way.free, *way.optional)) else scene.shape.keys
    return replace(scene, layout=layout, shape=replace(scene.shape, keys=keys))


def _is_interpreted(made: Call, scene: Scene) -> bool:
    """Whether kernels are interpreted: without the reference as its oracle one more configuration takes too long."""
    launched = shim_log.launches()
    trial(made.output, made.inputs, scene.seed)
    return shim_log.launches() > launched and scene.device == "cpu"


def _first(binding: Binding, scenes: Iterable[Scene], slow: bool) -> Scene | None:
    """The first scene in which the target runs and computes the same; softmax attention alone where it is slow."""
    search = Search(time.monotonic() + _BUDGET)
    try:
        for scene in scenes:
            found = search.attempt(binding.way, scene)
            if found is not None and _fits(binding, found, slow):
                return scene
    except CannotCallError:  # out of time
        pass
    return None


def _fits(plain: Binding, found: Binding, slow: bool) -> bool:
    return found.agrees or (not (plain.agrees or slow) and _computes_the_same(plain, found))


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
        truth = torch.cat([_plainly(plain, *part) for part in zip(*parts, strict=True)], 2)
        output = to_bhtd(trial(made.output, made.inputs, scene.seed), query_layout(scene.layout))
    except Exception:  # code that was not written for us, at sizes that were not tried before
        return False
    return output.shape == truth.shape and relative_error(output, truth) < _SAME


def _plainly(binding: Binding, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The output (B,H,T,Dv) of the plain call for q (B,H,T,D), k and v."""
    batch, heads, queries, dim = q.shape
    shape = replace(binding.scene.shape, batch=batch, heads=heads, queries=queries, keys=k.shape[2], dim=dim)
    scene = replace(binding.scene, shape=shape)
    inputs = {n: from_bhtd(t, scene.layout).contiguous() for n, t in zip(QKV, (q, k, v), strict=True)}
    return to_bhtd(trial(binding.call(scene).output, inputs, scene.seed), scene.layout)


MOST = 2
"""How many optional tensors are given: each is measured like another configuration."""

_SHAPES = 3
"""In how many shapes each is tried."""

"""Seconds after which no further one is tried."""


def with_options(binding: Binding) -> dict[str, Scene]:
    """Scenes in which a module is given an optional tensor too, by what is said of them.

    Only where it runs with it, and its output is another then.
    """
    names = binding.way.tensors if binding.call().module is not None else ()
    search, found = Search(time.monotonic() + _BUDGET), {}
    for name in (name for name in names if name not in binding.way.choice):
        try:
            scene = next(_scenes(binding, name, search), None)
        except CannotCallError:  # out of time
            break
        found.update({f"its optional {name}": scene} if scene is not None else {})
        if len(found) == MOST:
            break
    return found


def _scenes(binding: Binding, name: str, search: Search) -> Iterator[Scene]:
    plain = binding.call()
    for index in range(1, 1 + _SHAPES):
        scene = replace(binding.scene, choice={**binding.scene.choice, name: index})
        given = search.attempt(binding.way, scene)
        if given is None or name not in (call := given.call()).inputs:
            continue
        if not torch.equal(*outputs((plain, call), scene.seed)):
            yield scene
