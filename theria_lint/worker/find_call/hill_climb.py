"""Other arguments for a target that could not be called: each change starts from the attempt that got furthest."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace

import torch

from theria.probes.qkv import Shape
from theria_lint.worker.find_call.argument_values import CHUNKS, is_learned
from theria_lint.worker.find_call.call_strategy import CANDIDATES, Call, Way
from theria_lint.worker.find_call.run_trial import GARBAGE, Binding, Refusal, Search
from theria_lint.worker.find_call.shape_hints import shapes_in
from theria_lint.worker.find_call.trial_spec import SEVERAL_CHUNKS, SIZES, Scene

STARTS = 4
"""From how many of the attempts that got furthest other arguments are tried."""

LONGEST = 256
"""The most positions that a complaint is believed to want."""

_IN_PLACE = "a leaf Variable that requires grad is being used in an in-place operation"
_DTYPES = re.compile(r"dtype|scalar type|\bDouble\b|to type float")
_MISMATCH = re.compile(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)")


def climbing(search: Search, layouts: Container[str]) -> Binding | None:
    """Other arguments in some layouts, one at a time, as long as each change gets further than the last."""
    starts: dict[str, Refusal] = {}
    for refusal in (refusal for refusal in search.furthest() if refusal.scene.layout in layouts):
        starts.setdefault(refusal.scene.layout, refusal)
    for start in [*starts.values()][:STARTS]:
        best: Refusal | None = start
        while best is not None:
            found, best = _step(search, best)
            if found is not None:
                return found
    return None


def _step(search: Search, best: Refusal) -> tuple[Binding | None, Refusal | None]:
    """The first change that runs, or else the one that gets furthest, if that is further than before."""
    further: Refusal | None = None
    for way, scene in _changes(best):
        count = len(search.refusals)
        binding = search.attempt(way, scene)
        if binding is not None:
            return binding, None
        for refusal in search.refusals[count:]:
            if refusal.progress > (further or best).progress:
                further = refusal
    return None, further


def _changes(best: Refusal) -> Iterator[tuple[Way, Scene]]:
    """What may help: a shape or precision that the complaint asks for, gentler numbers, another argument or size."""
    way, scene = best.way, best.scene
    asked = {name: symbols for name, symbols in shapes_in(best.reason).items() if scene.written.get(name) != symbols}
    if asked:
        yield way, replace(scene, written={**scene.written, **asked})
    if _IN_PLACE in best.reason:
        yield replace(way, make=_on_copies(way)), scene
    if scene.dtype is torch.float64 and _DTYPES.search(best.reason):
        yield way, replace(scene, dtype=torch.float32)
    if best.progress[0] == GARBAGE and not scene.gentle:
        yield way, replace(scene, gentle=True)
    yield from ((way, replace(scene, shape=shape)) for shape in _asked_lengths(scene.shape, best.reason))
    for other in way.others(best.reason):
        yield other, scene
    together = [name for name in way.free if is_learned(name)]
    for index in range(1, CANDIDATES) if len(together) > 1 else ():
        yield replace(way, choice={**way.choice, **dict.fromkeys(together, index)}), scene
    if any(re.search(CHUNKS, name) for name in way.optional) and not scene.small:
        yield way, replace(scene, small=True, shape=SEVERAL_CHUNKS)
    if way.choice:
        yield from ((way, replace(scene, shape=shape)) for shape in SIZES[1:] if shape != scene.shape)


def _on_copies(way: Way) -> Callable[[Scene, Mapping[str, int]], Call]:
    """Makes the call with copies of its inputs: code that writes into q is given what a projection made, not a leaf."""

    def make(scene: Scene, choice: Mapping[str, int]) -> Call:
        made = way.make(scene, choice)
        function = made.function
        return replace(made, function=lambda *values, **others: function(*(v.clone() for v in values), **others))

    return make


def _asked_lengths(shape: Shape, reason: str) -> Iterator[Shape]:
    """As many positions as a complaint wants: a window's table of biases fits one number of them."""
    for one, other in _MISMATCH.findall(reason):
        for given, wanted in ((int(one), int(other)), (int(other), int(one))):
            if given in (shape.queries, shape.keys) and 1 < wanted <= LONGEST:
                yield replace(shape, queries=wanted, keys=wanted)
