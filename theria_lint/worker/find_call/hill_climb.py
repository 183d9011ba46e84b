"""Hill-climb from the failed trials that got furthest, one argument at a time."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import replace

import torch

from theria.probes.layouts import Shape
from theria_lint.worker.find_call.argument_values import CHUNK_NAMES, is_learned
from theria_lint.worker.find_call.call_strategy import (
    LARGE_IMAGES,
    MAX_CANDIDATES,
    SEVERAL_CHUNKS,
    SIZES,
    CallStrategy,
    TrialSpec,
)
from theria_lint.worker.find_call.run_trial import INVALID_OUTPUT_STAGE, CallSearch, FailedTrial, WorkingCall
from theria_lint.worker.find_call.signatures import find_shapes
from theria_lint.worker.library_messages import find_differing_sizes, find_wanted_channels, is_about_dtype

MAX_STARTS = 4
"""From how many of the attempts that got furthest other arguments are tried."""

MAX_ASKED_LENGTH = 256
"""The most positions that a complaint is believed to want."""


def hill_climb(search: CallSearch, layouts: Container[str]) -> WorkingCall | None:
    """Other arguments in some layouts, one at a time, as long as each change gets further than the last."""
    starts: dict[str, FailedTrial] = {}
    for failed_trial in (
        failed_trial for failed_trial in search.list_furthest() if failed_trial.spec.layout in layouts
    ):
        starts.setdefault(failed_trial.spec.layout, failed_trial)
    for start in [*starts.values()][:MAX_STARTS]:
        best: FailedTrial | None = start
        while best is not None:
            found, best = _take_best_step(search, best)
            if found is not None:
                return found
    return None


def _take_best_step(search: CallSearch, best: FailedTrial) -> tuple[WorkingCall | None, FailedTrial | None]:
    """The first change that runs, or else the one that gets furthest, if that is further than before."""
    further: FailedTrial | None = None
    for strategy, spec in _list_changes(best):
        count = len(search.failed_trials)
        working_call = search.run_trial(strategy, spec)
        if working_call is not None:
            return working_call, None
        for failed_trial in search.failed_trials[count:]:
            if failed_trial.progress > (further or best).progress:
                further = failed_trial
    return None, further


def _list_changes(best: FailedTrial) -> Iterator[tuple[CallStrategy, TrialSpec]]:
    """What may help: a shape or precision that the complaint asks for, gentler numbers, another argument or size.

    An image of the channels that a convolution wants, or a larger one, comes before other arguments: they are few.
    """
    strategy, spec = best.strategy, best.spec
    asked = {
        name: symbols for name, symbols in find_shapes(best.complaint).items() if spec.text_shapes.get(name) != symbols
    }
    if asked:
        yield strategy, replace(spec, text_shapes={**spec.text_shapes, **asked})
    if spec.dtype is torch.float64 and is_about_dtype(best.complaint):
        yield strategy, replace(spec, dtype=torch.float32)
    if best.progress[0] == INVALID_OUTPUT_STAGE and not spec.gentle:
        yield strategy, replace(spec, gentle=True)
    yield from ((strategy, replace(spec, shape=shape)) for shape in _list_asked_lengths(spec.shape, best.complaint))
    if spec.layout in strategy.image_layouts:
        yield from ((strategy, other) for other in _list_images(spec, best.complaint))
    for other in strategy.list_variations(best.complaint):
        yield other, spec
    together = [name for name in strategy.free if is_learned(name)]
    for index in range(1, MAX_CANDIDATES) if len(together) > 1 else ():
        yield replace(strategy, choice={**strategy.choice, **dict.fromkeys(together, index)}), spec
    if any(re.search(CHUNK_NAMES, name) for name in strategy.optional) and not spec.small:
        yield strategy, replace(spec, small=True, shape=SEVERAL_CHUNKS)
    if strategy.choice:
        yield from ((strategy, replace(spec, shape=shape)) for shape in SIZES[1:] if shape != spec.shape)


def _list_images(spec: TrialSpec, complaint: str) -> Iterator[TrialSpec]:
    """Images of the channels that a convolution wants, and larger ones.

    Both at once: stages run in a loop, where a trial that fails in the second is no further than one in the first.
    """
    channels = find_wanted_channels(complaint) or spec.image_channels
    larger = [replace(spec.shape, queries=n, keys=n) for n in LARGE_IMAGES if n > spec.shape.queries]
    for shape in [spec.shape, *larger]:
        other = replace(spec, shape=shape, image_channels=channels)
        if other != spec:
            yield other


def _list_asked_lengths(shape: Shape, complaint: str) -> Iterator[Shape]:
    """As many positions as a complaint wants: a window's table of biases fits one number of them."""
    for one, other in find_differing_sizes(complaint):
        for given, wanted in ((one, other), (other, one)):
            if given in (shape.queries, shape.keys) and 1 < wanted <= MAX_ASKED_LENGTH:
                yield replace(shape, queries=wanted, keys=wanted)
