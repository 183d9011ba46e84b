"""Choose the sizes at which a recorded call is made: its own, or smaller ones where those are slow or find no room."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

from theria_lint.calls.call_file import SHORTEST
from theria_lint.calls.call_tree import Tree, iter_tensors
from theria_lint.worker.clock import read_clock
from theria_lint.worker.find_call.call_strategy import CallStrategy, Cut, TrialSpec
from theria_lint.worker.find_call.computation import describe_computation
from theria_lint.worker.find_call.run_trial import CallSearch, CannotCallError, WorkingCall, compute_first_gradients

FAST = 0.02
"""Seconds of processor time for a forward and a backward that leave a call as it is: a probe makes some hundreds."""

SLOW = 0.06
"""Seconds from which a call is measured along directions alone, where it cannot be made smaller."""

LONG_TABLE = 1 << 12
"""The least number in a constructor that is taken for the length of a table."""

WIDE, NARROW = 2048, 128
"""The width from which a recorded module is made narrow before it is tried, and how wide it may be then.

Its weights have four million numbers each: to draw, run and differentiate them took 13 s of the 30 that there are.
"""

FACTORS = (2, 4, 8, 16, 32, 64)
"""By how much sizes are cut."""


def run_recorded_call(
    search: CallSearch, strategy: CallStrategy, spec: TrialSpec, document: Mapping[str, Any]
) -> WorkingCall | None:
    """A recorded call at its full size or, where not all of it was kept, there is no room or it is wide, a smaller one.

    None where it raised.

    Raises:
        CannotCallError: if there is no time left.
        MemoryError: if there is no room for it at any size.
    """
    kept, roomy = _find_kept_sizes(document), True
    widths = _list_width_choices(document)
    for cut in _list_narrow_cuts(document, kept):
        found = search.run_trial(strategy, replace(spec, cut=cut, cut_widths=True))
        if found is not None:
            return found
    for cut_widths in widths if kept else (False,):
        found = search.run_trial(strategy, replace(spec, cut=kept, cut_widths=cut_widths))
        if found is not None:
            return found
        roomy = roomy and not any(failed.lacks_room for failed in search.failed_trials[-1:])
    if roomy:
        return None
    for cut_widths, sizes, factor in product(widths, _list_groups(document), FACTORS):
        smaller = replace(spec, cut=_cut_sizes(sizes, factor, kept), cut_widths=cut_widths)
        found = search.run_trial(strategy, smaller)
        if found is not None:
            return found
    raise MemoryError


def _list_narrow_cuts(document: Mapping[str, Any], kept: Cut) -> Iterator[Cut]:
    """What to cut at once of a module that is so wide that one attempt takes as long as there is time."""
    widest = max(_list_built_numbers(_list_constructors(document)), default=0)
    if widest >= WIDE:
        factors = [factor for factor in FACTORS if widest // factor <= NARROW]
        yield from (_cut_sizes(group, f, kept) for group in _list_groups(document) for f in factors if widest in group)


def _find_kept_sizes(document: Mapping[str, Any]) -> dict[int, int]:
    """How much is left of each size along which the beginnings of tensors alone were kept."""
    found: dict[int, int] = {}
    for told in iter_tensors([document[name] for name in ("args", "kwargs")] + _list_constructors(document)):
        for size, left in zip(told["shape"], told.get("corner") or told["shape"], strict=True):
            if left < size:
                found[size] = min(left, found.get(size, size))
    return found


def _list_constructors(document: Mapping[str, Any]) -> list[Any]:
    return [document[name] for name in ("constructor", "factory") if document.get(name)]


def _list_built_numbers(tree: Any) -> Iterator[int]:
    """The whole numbers in what a constructor was given."""
    if isinstance(tree, dict):
        if type(tree.get("value")) is int:
            yield tree["value"]
        tree = list(tree.values())
    for part in tree if isinstance(tree, list) else ():
        yield from _list_built_numbers(part)


def _list_width_choices(document: Mapping[str, Any]) -> tuple[bool, ...]:
    """Whether the numbers of a constructor are cut, too: first without that, and with it where there is one."""
    return (False, True) if _list_constructors(document) else (False,)


def _cut_sizes(sizes: Iterable[int], factor: int, before: Cut) -> dict[int, int]:
    """What is left of some sizes, of which ``before`` may leave less than there was."""
    left = {size: before.get(size, size) for size in sizes}
    return {**before, **{size: max(now // factor, SHORTEST) for size, now in left.items() if now > SHORTEST}}


def settle_size(search: CallSearch, found: WorkingCall, document: Mapping[str, Any]) -> WorkingCall:
    """A recorded call that works, at sizes at which it can be probed; along directions where none is fast enough.

    The numbers that a constructor was given are cut where cutting the arguments alone was not enough: a width then is
    that of the inputs still.
    """
    fastest, spent = found, time_call(found)
    if spent <= FAST:
        return found
    least, enough = spent, SLOW if found.make_call().module is None else FAST  # parameters are measured part by part
    for smaller in _list_smaller_calls(search, found, document, spent):
        seconds = time_call(smaller)
        if seconds <= enough:
            return smaller
        if seconds < least:
            fastest, least = smaller, seconds
    return fastest if least <= SLOW else replace(fastest, spec=replace(fastest.spec, directional=True))


def time_call(found: WorkingCall) -> float:
    """Seconds of processor time for a forward and a backward, in parameters as well as inputs: both are measured.

    Of the second, for the first one may set things up.
    """
    made, spent = found.make_call(), 0.0
    parameters = [p for p in made.module.parameters() if p.requires_grad] if made.module is not None else []
    for _ in range(2):
        began = read_clock()
        with suppress(Exception):  # what a backward raises, the probe tells
            compute_first_gradients(made, found.spec.seed, parameters)
        spent = read_clock() - began
        if spent <= FAST:
            break
    return spent


def _list_smaller_calls(
    search: CallSearch, found: WorkingCall, document: Mapping[str, Any], spent: float
) -> Iterator[WorkingCall]:
    """The call with groups of sizes cut: the first group that it bears, then with the constructor's numbers cut too.

    There, if that is not fast enough, all sizes together: the weights of wide layers take longer than short inputs.
    The length of a table of tokens comes last.
    """
    computed = _name_operations(found, found.spec)
    for cut_widths in _list_width_choices(document):
        found_any = False
        for sizes in _list_groups(document):
            if found_any and (len(sizes) == 1 or (_list_constructors(document) and not cut_widths)):
                break
            spec = replace(found.spec, cut_widths=cut_widths or found.spec.cut_widths)
            smaller, computed = _cut_sizes_of_call(search, replace(found, spec=spec), sizes, spent, computed)
            if smaller is not None:
                found_any = True
                yield smaller
    table = max(_list_built_numbers(_list_constructors(document)), default=0)
    if table >= LONG_TABLE:  # the weights of a vocabulary take longer than anything else, and no input is as long
        sizes = [*next(_list_groups(document), ()), table]
        wide = replace(found, spec=replace(found.spec, cut_widths=True))
        smaller, _ = _cut_sizes_of_call(search, wide, sizes, spent, computed)
        if smaller is not None:
            yield smaller


def _cut_sizes_of_call(
    search: CallSearch, found: WorkingCall, sizes: Sequence[int], spent: float, computed: set[str] | None
) -> tuple[WorkingCall | None, set[str] | None]:
    """The call with some sizes cut so that it is fast, if that is possible, and None if it bears no cut.

    The factor is tried first that would make it fast if its time, ``spent``, went with its sizes: what is large takes
    long to try. Then larger ones if that is not enough, smaller ones if that is too much. ``computed`` are the
    operations that it has to name; those of the first where nobody knows, for they took more memory than there is.
    """
    likely = next((place for place, factor in enumerate(FACTORS) if factor * FAST >= spent), len(FACTORS) - 1)
    smaller: WorkingCall | None = None
    for factor in (*FACTORS[likely:], *reversed(FACTORS[:likely])):
        cut = _cut_sizes(sizes, factor, found.spec.cut)
        if smaller is not None and (cut == smaller.spec.cut or factor < FACTORS[likely] or time_call(smaller) <= FAST):
            break
        tried = _try_spec(search, found, replace(found.spec, cut=cut))
        operations = None if tried is None else _name_operations(found, tried.spec)
        computed = computed or operations
        if tried is not None and operations == computed:
            smaller = tried
    return smaller, computed


def _try_spec(search: CallSearch, found: WorkingCall, spec: TrialSpec) -> WorkingCall | None:
    """The call at other sizes; None where it does not bear them, or no time is left: it works as it is."""
    try:
        return search.run_trial(found.strategy, spec)
    except CannotCallError:
        return None


def _list_groups(document: Mapping[str, Any]) -> Iterator[Sequence[int]]:
    """The sizes that may be cut together: all but those of last axes alone, all, and each alone, the largest first."""
    shapes = [told["shape"] for tree in _list_arguments(document) for told in iter_tensors(tree)]
    features = {shape[-1] for shape in shapes if shape} - {size for shape in shapes for size in shape[:-1]}
    known = sorted({size for shape in shapes for size in shape if size > SHORTEST}, reverse=True)
    groups = [[size for size in known if size not in features], known, *([size] for size in known)]
    yield from (group for group in groups if group)


def _list_arguments(document: Mapping[str, Any]) -> Iterable[Tree]:
    return (*document["args"], *document["kwargs"].values())


def _name_operations(found: WorkingCall, spec: TrialSpec) -> set[str] | None:
    """The kinds of operations that a call records, to the second order: a smaller one is to compute the same."""
    described = describe_computation(found, spec)
    return None if described is None else {re.sub(r"\d+", "", name) for name in described[0]}
