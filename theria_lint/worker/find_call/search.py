"""Search for a working call: strategies × layouts × sizes × dtypes, then a hill climb, then post-passes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from theria.probes.layouts import ODD, PACKED, SHARED, Shape
from theria.probes.point import trial
from theria_lint.model import TargetKind
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.worker.base_attention import make_base_attention
from theria_lint.worker.clock import read_clock
from theria_lint.worker.find_call.argument_values import (
    CHUNK_NAMES,
    is_learned,
    may_be_differentiated,
    takes_one_length,
)
from theria_lint.worker.find_call.call_strategy import (
    HEADS_AXIS,
    KERNEL_SIZES,
    KERNEL_SIZES_ON_GPU,
    ONE_PROGRAM,
    RECORDED,
    SEVERAL_CHUNKS,
    SIZES,
    CallStrategy,
    TrialSpec,
    read_flag,
)
from theria_lint.worker.find_call.hill_climb import hill_climb
from theria_lint.worker.find_call.layout_order import group_layouts
from theria_lint.worker.find_call.opened_target import find_owner
from theria_lint.worker.find_call.replay_sizes import run_recorded_call, settle_size, time_call
from theria_lint.worker.find_call.replayed_call import make_replayed_strategy
from theria_lint.worker.find_call.run_trial import (
    CallSearch,
    CannotCallError,
    FailedTrial,
    OutsideGraphError,
    WorkingCall,
    compute_first_gradients,
    depends_on_inputs,
    is_in_graph,
    is_raised_by_autograd,
)
from theria_lint.worker.find_call.signatures import find_shapes, read_source_text
from theria_lint.worker.find_call.strategies import list_layouts, list_strategies
from theria_lint.worker.find_call.watched_call import (
    MAX_CALLERS,
    find_callers,
    find_owners,
    is_autograd_function_part,
    make_watched_strategy,
    record_examples,
    record_owner,
)
from theria_lint.worker.shims.shim_log import ShimLog

PRECISE_DTYPES = (torch.float64, torch.float32)
KERNEL_DTYPES = (torch.float32, torch.float64)
"""In float64 the interpreter computes garbage where a compiler would refuse; few kernels are written for it, and a
forward that is right says nothing of the backward."""
HALF_DTYPES = (torch.bfloat16, torch.float16)

SLOW_CALL_SECONDS = 0.05
"""Seconds a call from which smaller sizes are chosen where a constructor lets them be."""

TOO_SLOW = 0.15
"""Seconds of a forward and a backward of which two hundred, a measurement in full, do not end in time."""

UNLIKELY_SIZES = 2
"""At how many sizes a call is tried that may fit better than one that runs."""

__all__ = ["CannotCallError", "WorkingCall", "find_working_call"]


def find_working_call(
    target: Any, kind: TargetKind, device: str, hints: Mapping[str, Any], budget: float, log: ShimLog
) -> WorkingCall:
    """Try ways, layouts, sizes and dtypes until one runs; among layouts, agreement with the reference decides.

    Where none runs with the likeliest arguments, other arguments are tried one after the other, each from the attempt
    that got furthest. A helper is called as the functions of its package call it, where one of them can be called.

    Args:
        target: the function, class or wrapper.
        kind: what it is.
        device: where the inputs live.
        hints: ``layout``, ``dtype`` and ``kwargs`` from the user's configuration.
        budget: seconds after which nothing more is tried.
        log: what the process uses in the place of what the machine lacks.

    Raises:
        CannotCallError: if nothing ran.
    """
    failed = None
    if hints.get("calls"):
        replayed, failed = _find_recorded_call(target, kind, device, hints, budget, log)
        if replayed is not None:
            return replayed
    if hints.get("unrecorded") or (failed and not hints.get("guess", True)):
        raise failed or CannotCallError(Reason(ReasonCode.NOT_RECORDED))
    unused = failed.reason if failed else None
    shown = record_examples(target, kind, hints.get("examples", ()))
    if shown:
        replayed, _ = _find_recorded_call(target, kind, device, {**hints, "calls": shown}, budget / 2, log)
        if replayed is not None:
            return replace(replayed, unused=unused)
    try:
        return replace(_guess_call(target, kind, device, hints, budget, log), unused=unused)
    except OutsideGraphError:
        raise
    except CannotCallError as error:  # what is wrong with the user's own call matters more than with the guesses
        raise failed or error from None


def _guess_call(
    target: Any, kind: TargetKind, device: str, hints: Mapping[str, Any], budget: float, log: ShimLog
) -> WorkingCall:
    """The target with arguments that are guessed or that its package gives it.

    Raises:
        CannotCallError: if nothing ran.
    """
    part = None
    if _is_called_by_functions(target, kind) and not (hints.get("kwargs") or hints.get("flag")):
        try:
            working_call = _find_call_by_callers(target, kind, device, hints, budget / 2, log)
        except OutsideGraphError as error:
            part = error
        else:
            if working_call is not None:
                return working_call
    owners = list(islice(find_owners(target), MAX_CALLERS)) if kind is TargetKind.MODULE else []
    deadline = read_clock() + budget
    try:
        working_call = _find_direct_call(target, kind, device, hints, budget / 2 if part or owners else budget, log)
    except CannotCallError as error:
        owned = _find_call_by_owners(target, owners, device, hints, deadline, log)
        if owned is not None:
            return owned
        raise part or error from None
    alone = part is None and _is_called_by_functions(target, kind) and is_autograd_function_part(target)
    if (part or alone) and not is_in_graph(working_call.make_call(), working_call.spec.seed):
        raise part or OutsideGraphError
    return working_call


def _find_recorded_call(
    target: Any, kind: TargetKind, device: str, hints: Mapping[str, Any], budget: float, log: ShimLog
) -> tuple[WorkingCall | None, CannotCallError | None]:
    """The target with the arguments that a recorded call gave it, in the most exact dtype that runs; or why none does.

    Raises:
        CannotCallError: if there is no time left.
    """
    search = CallSearch(read_clock() + budget / 2, log)
    calls = hints["calls"]
    strategy = make_replayed_strategy(target, kind, calls)
    dtypes = [getattr(torch, hints["dtype"])] if "dtype" in hints else [*PRECISE_DTYPES, *HALF_DTYPES]
    for dtype in dtypes:
        for number, call in enumerate(calls):
            spec = TrialSpec(
                *(ODD, "bhtd", dtype, device, make_base_attention("reference")),
                choice={RECORDED: number},
                turned=read_flag(hints),
                learning=hints.get("maml", True),
            )
            found = run_recorded_call(search, strategy, spec, call["document"])
            if found is not None:
                return _settle_recorded_calls(search, found, calls), None
    return None, search.make_cannot_call_error(ReasonCode.NOTHING_TO_TRY)


def _settle_recorded_calls(search: CallSearch, found: WorkingCall, calls: Sequence[Mapping[str, Any]]) -> WorkingCall:
    """The recorded call that works, and the others in its dtype, each at sizes at which it can be probed."""
    began = read_clock()
    first = settle_size(search, found, calls[found.spec.choice[RECORDED]]["document"])
    settled, specs = read_clock(), [first.spec]
    latest = (settled + search.deadline) / 2  # the first has to be measured as well, which takes longer than this
    with suppress(CannotCallError):  # there is no time left
        for number, call in enumerate(calls):
            if read_clock() + settled - began > latest:
                break
            other = replace(found.spec, choice={RECORDED: number}, seed=number + 1, cut={}, cut_widths=False)
            if number != first.spec.choice[RECORDED]:
                working = run_recorded_call(search, found.strategy, other, call["document"])
                specs.append(settle_size(search, working, call["document"]).spec if working else other)
    return replace(first, strategy=replace(first.strategy, specs=tuple(specs)))


def _is_called_by_functions(target: Any, kind: TargetKind) -> bool:
    """Whether a target is one that functions call, and not an object that is built first."""
    built = inspect.isclass(target) or find_owner(target) is not None
    return kind is TargetKind.AUTOGRAD_FUNCTION or (kind is TargetKind.FUNCTION and not built)


def _find_call_by_callers(
    target: Any, kind: TargetKind, device: str, hints: Mapping[str, Any], budget: float, log: ShimLog
) -> WorkingCall | None:
    """The target with the arguments that a function of its package gives it; None where none can be seen to.

    Raises:
        PartError: if it runs outside the graph wherever it was seen to run.
    """
    deadline, part = read_clock() + budget, None
    for caller in islice(find_callers(target), MAX_CALLERS):
        try:
            outer = _find_direct_call(caller, TargetKind.FUNCTION, device, hints, deadline - read_clock(), log)
            search = CallSearch(deadline, log)
            found = search.run_trial(make_watched_strategy(target, kind, outer), outer.spec)
        except OutsideGraphError as error:
            part = error
        except CannotCallError:
            continue
        else:
            if found is not None:
                return found
    if part is not None:
        raise part
    return None


def _find_call_by_owners(
    target: Any, owners: Iterable[Any], device: str, hints: Mapping[str, Any], deadline: float, log: ShimLog
) -> WorkingCall | None:
    """A module as one of those that build it calls it; None where none can be seen to before a deadline."""
    for owner in owners:
        try:
            outer = _find_direct_call(owner, TargetKind.MODULE, device, {}, deadline - read_clock(), log)
            seen = record_owner(target, owner, outer)
            if seen is None:
                continue
            recorded, left = {**hints, "calls": [seen]}, deadline - read_clock()
            replayed, _ = _find_recorded_call(target, TargetKind.MODULE, device, recorded, left, log)
        except CannotCallError:
            continue
        if replayed is not None:
            return replayed
    return None


def _find_direct_call(
    target: Any, kind: TargetKind, device: str, hints: Mapping[str, Any], budget: float, log: ShimLog
) -> WorkingCall:
    """The target with arguments that are made up for it.

    Raises:
        CannotCallError: if nothing ran.
        MemoryError: if there was room for nothing.
    """
    search = CallSearch(
        read_clock() + budget, log, counterfactual=not hints.get("maml", True), shrinks=kind is TargetKind.MODULE
    )
    strategies = list(list_strategies(target, kind, hints.get("kwargs", {})))
    text_shapes = {} if kind is TargetKind.MODULE else find_shapes(read_source_text(target))
    known = list_layouts(kind)
    ordered = group_layouts(known, target, kind, text_shapes, strategies)
    groups = [[hints["layout"].lower()]] if "layout" in hints else ordered
    kernels = log.holds_kernels(getattr(target, "__module__", None) or "")
    precise = KERNEL_DTYPES if kernels else PRECISE_DTYPES
    for dtypes in [(getattr(torch, hints["dtype"]),)] if "dtype" in hints else [precise, HALF_DTYPES]:
        plain = TrialSpec(
            *(ODD, groups[0][0], dtypes[0], device, make_base_attention("reference")),
            text_shapes=text_shapes,
            turned=read_flag(hints),
            learning=hints.get("maml", True),
        )
        specs = [
            [
                [replace(plain, dtype=d, shape=s, layout=n) for n in layouts]
                for d in dtypes
                for s in _list_trial_sizes(layouts, strategies, device if kernels else None)
            ]
            for layouts in groups
        ]
        working_call = _search_layout_groups(search, strategies, specs)
        if working_call is not None:
            precise_enough = working_call if "dtype" in hints else _lower_to_float32(search, working_call)
            return _join_learned_extras(
                search, _shrink_slow_call(search, _restore_defaults(search, precise_enough), kind)
            )
    search.check_had_room()
    raise search.make_cannot_call_error(ReasonCode.NOTHING_TO_TRY)


def _search_layout_groups(
    search: CallSearch, strategies: Sequence[CallStrategy], groups: Iterable[list[list[TrialSpec]]]
) -> WorkingCall | None:
    """The first group's that runs; one that gives attention's shape or agrees with it before one that does not."""
    other: WorkingCall | None = None
    for specs in groups:
        likely = other is None and (
            ":" not in specs[0][0].layout or any(strategy.shares_keys for strategy in strategies)
        )
        found = _search_one_group(search, strategies, specs if likely else specs[:UNLIKELY_SIZES], climb=likely)
        if found is not None and (found.agrees or (other is None and gives_expected_shape(found))):
            return found
        other = other or found
    return other


def _list_trial_sizes(
    layouts: Sequence[str], strategies: Sequence[CallStrategy], kernels: str | None
) -> Sequence[Shape]:
    """The sizes to try in some layouts; ``kernels``: where the target's kernels run, None where it has none."""
    sizes = SIZES
    if kernels == "cpu":
        sizes = (*((ONE_PROGRAM,) if len(layouts) == 1 else ()), *KERNEL_SIZES)
    elif kernels is not None:
        sizes = KERNEL_SIZES_ON_GPU
    if layouts[0] in PACKED and any(takes_one_length((*strategy.free, *strategy.optional)) for strategy in strategies):
        return [size for size in sizes if size.queries == size.keys]
    return [replace(size, heads=2 * size.heads) for size in sizes] if layouts[0] in SHARED else sizes


def _search_one_group(
    search: CallSearch, strategies: Sequence[CallStrategy], groups: Iterable[list[TrialSpec]], *, climb: bool
) -> WorkingCall | None:
    """Each way with its likeliest arguments, in each spec; with other arguments where other sizes get no further.

    A call whose output does not depend on its inputs says nothing: one that does, at other sizes, goes before it.

    ``groups``: specs that differ in layout alone. ``climb``: whether other arguments are tried at all.
    """
    constant: WorkingCall | None = None
    stuck: tuple[Any, ...] = ()
    climbed = False
    layouts: set[str] = set()
    for specs in groups:
        layouts |= {spec.layout for spec in specs}
        count = len(search.failed_trials)
        working_call = _try_strategies(search, strategies, specs)
        if working_call is not None and not search.interpreted and not depends_on_inputs(working_call):
            constant = constant or working_call
            continue
        if working_call is None and climb and not climbed and constant is None:
            last, stuck = stuck, _summarise_failures(search.failed_trials[count:])
            climbed = stuck == last
            working_call = hill_climb(search, layouts) if climbed else None
        if working_call is not None:
            return working_call
    other = hill_climb(search, layouts) if climb and not climbed else None
    return other if other is not None and (constant is None or depends_on_inputs(other)) else constant


def _summarise_failures(failed_trials: Iterable[FailedTrial]) -> tuple[Any, ...]:
    """What stopped some attempts and where, whatever the sizes were."""
    return tuple(
        (trial.spec.layout, trial.progress, str(trial.reason.code), re.sub(r"\d+", "", trial.complaint))
        for trial in failed_trials
    )


def _try_strategies(
    search: CallSearch, strategies: Sequence[CallStrategy], specs: list[TrialSpec]
) -> WorkingCall | None:
    """The first way that runs: in the layout that agrees with the reference, else in one that keeps heads apart."""
    for strategy in strategies:
        found = []
        for spec in specs[:1] if strategy.layoutless else specs:
            working_call = search.run_trial(strategy, spec)
            if working_call is not None and working_call.agrees:
                return working_call
            found += [working_call] if working_call is not None else []
        if found:
            return next((b for b in found if keeps_heads_apart(b)), found[0]) if len(found) > 1 else found[0]
    return None


def _lower_to_float32(search: CallSearch, working_call: WorkingCall) -> WorkingCall:
    """The same call in float32 where a kernel of another package turned out to run in float64."""
    if not search.interpreted or working_call.spec.dtype is not torch.float64:
        return working_call
    return search.run_trial(working_call.strategy, replace(working_call.spec, dtype=torch.float32)) or working_call


def _restore_defaults(search: CallSearch, working_call: WorkingCall) -> WorkingCall:
    """The same call with its defaults, at the first size that takes them: made-up arguments may hide damage."""
    strategy, spec = working_call.strategy, working_call.spec
    needed = {name: index for name, index in strategy.choice.items() if name not in strategy.optional}
    if needed == dict(strategy.choice):
        return working_call
    constant: WorkingCall | None = None
    for shape in SIZES:
        found = search.run_trial(replace(strategy, choice=needed), replace(spec, shape=shape))
        if found is not None and (search.interpreted or depends_on_inputs(found)):
            return found
        constant = constant or found
    return constant or working_call


def _shrink_slow_call(search: CallSearch, working_call: WorkingCall, kind: TargetKind) -> WorkingCall:
    """The same call with smaller sizes, where one takes long: finite differences make hundreds.

    A module that is slow all the same, as one of many layers is, is measured along a few directions.
    A function that works in chunks gets short ones, for what is lost between two does not show in one.
    """
    spec = working_call.spec
    if kind is TargetKind.MODULE:
        return _shrink_slow_module(search, working_call)
    if search.interpreted and working_call.agrees and spec.shape.heads > 1:
        return (
            search.run_trial(working_call.strategy, replace(spec, shape=replace(spec.shape, heads=1))) or working_call
        )
    if not search.interpreted and any(re.search(CHUNK_NAMES, name) for name in working_call.strategy.optional):
        return search.run_trial(working_call.strategy, replace(spec, small=True, shape=SEVERAL_CHUNKS)) or working_call
    return working_call


def _shrink_slow_module(search: CallSearch, working_call: WorkingCall) -> WorkingCall:
    """The same call of a module that is built smaller; measured along a few directions if it is slow all the same."""
    made, began = working_call.make_call(), read_clock()
    trial(made.compute_output, made.inputs, working_call.spec.seed)
    found = working_call
    if read_clock() - began > SLOW_CALL_SECONDS:
        if not found.spec.small:
            found = search.run_trial(found.strategy, replace(found.spec, small=True)) or found
        if time_call(found) > TOO_SLOW:
            found = search.run_trial(found.strategy, replace(found.spec, narrow=True, small=True)) or found
    slow = not search.interpreted and not found.agrees and time_call(found) > TOO_SLOW
    return replace(found, spec=replace(found.spec, directional=True)) if slow else found


def _join_learned_extras(search: CallSearch, working_call: WorkingCall) -> WorkingCall:
    """The call with its gates, decays and other learned tensors among the inputs.

    Where the forward is softmax attention without them, they do nothing. What autograd says is unused is an input
    only if its name says that it is learned: an author may mean a tensor to be a constant.
    """
    names = tuple(name for name in working_call.make_call().extras if may_be_differentiated(name))
    if not names or working_call.agrees:
        return working_call
    wide = replace(working_call.strategy, joined=names)
    try:
        gradients = compute_first_gradients(wide(working_call.spec), working_call.spec.seed)
    except Exception as error:
        if not is_raised_by_autograd(error):  # the probe of q, k and v tells what its own backward raises
            return working_call
        gradients = dict.fromkeys(names)  # a decay that was overwritten since is safe only where it is a constant
    kept = tuple(name for name in names if gradients[name] is not None or is_learned(name))
    return (search.run_trial(replace(wide, joined=kept), working_call.spec) if kept else None) or working_call


def gives_expected_shape(working_call: WorkingCall) -> bool:
    """Whether the output has the shape that attention's would have, as far as that is known."""
    made = working_call.make_call()
    return (
        made.expected is None
        or tuple(trial(made.compute_output, made.inputs, working_call.spec.seed).shape) == made.expected
    )


def keeps_heads_apart(working_call: WorkingCall) -> bool:
    """Whether what one head is given leaves the output of another as it is: else the axis may be that of time.

    True where there are no two heads to tell apart.
    """
    made, spec = working_call.make_call(), working_call.spec
    axis = HEADS_AXIS.get(spec.layout)
    if axis is None or "v" not in made.inputs or made.inputs["v"].dim() <= axis or spec.shape.heads < 2:
        return True
    rank = made.inputs["v"].dim()
    moved = dict(made.inputs)
    moved["v"] = moved["v"].clone()
    moved["v"].select(axis, 0).add_(1.0)
    outputs = [trial(made.compute_output, inputs, spec.seed) for inputs in (made.inputs, moved)]
    if any(output.dim() != rank or output.shape[axis] != spec.shape.heads for output in outputs):
        return True
    first, second = (output.select(axis, 1) for output in outputs)
    return torch.allclose(first, second, rtol=1e-3, atol=1e-3 * float(first.abs().max()))
