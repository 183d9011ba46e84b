"""Make a recorded call smaller where it is slow: lengths and batch are cut together, axes that share a size alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from theria_lint.calls.call_tree import Tree, iter_tensors
from theria_lint.worker.clock import read_clock
from theria_lint.worker.find_call.computation import describe_computation
from theria_lint.worker.find_call.run_trial import CallSearch, WorkingCall, compute_first_gradients
from theria_lint.worker.find_call.trial_spec import TrialSpec

FAST = 0.02
"""Seconds of processor time for a forward and a backward that leave a call as it is: a probe makes some hundreds."""

SLOW = 0.06
"""Seconds from which a call is measured along directions alone, where it cannot be made smaller."""

SHORTEST = 8
"""Nothing is cut below this."""


def settle_size(search: CallSearch, found: WorkingCall, document: Mapping[str, Any]) -> WorkingCall:
    """A recorded call that works, at sizes at which it can be probed; as it is and along directions where none can."""
    if _time_call(found) <= FAST:
        return found
    smaller = _cut_call(search, found, document) or found
    if _time_call(smaller) <= SLOW:
        return smaller
    return replace(found, spec=replace(found.spec, directional=True))


def _time_call(found: WorkingCall) -> float:
    """Seconds of processor time for a forward and a backward; of the second, for the first one may set things up."""
    made, spent = found.make_call(), 0.0
    for _ in range(2):
        began = read_clock()
        compute_first_gradients(made, found.spec.seed)
        spent = read_clock() - began
        if spent <= FAST:
            break
    return spent


def _cut_call(search: CallSearch, found: WorkingCall, document: Mapping[str, Any]) -> WorkingCall | None:
    """The call with the first of some groups of sizes cut that it bears, until it is fast or nothing is left to cut."""
    computed = _name_operations(found, found.spec)
    for sizes in _list_groups(document):
        smaller: WorkingCall | None = None
        for factor in (2, 4, 8, 16, 32, 64):
            cut = {size: max(size // factor, SHORTEST) for size in sizes if size > SHORTEST}
            if smaller is not None and (cut == dict(smaller.spec.cut) or _time_call(smaller) <= FAST):
                break
            tried = search.run_trial(found.strategy, replace(found.spec, cut=cut))
            if tried is None or _name_operations(found, tried.spec) != computed:
                break
            smaller = tried
        if smaller is not None:
            return smaller
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
