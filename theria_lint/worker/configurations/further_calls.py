"""Find specs for branches that plain q, k, v do not reach: packed sequences, shared keys, optional arguments."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

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
from theria.probes.point import call, copy_strided, trial
from theria.probes.rounding import relative_error
from theria_lint.model import Configuration, label_configuration
from theria_lint.worker.clock import read_clock
from theria_lint.worker.find_call.argument_values import is_number_by_convention, may_be_learned, takes_one_length
from theria_lint.worker.find_call.call_strategy import (
    CONSTRUCTOR_PREFIX,
    MAX_CANDIDATES,
    BoundCall,
    TrialSpec,
    compute_outputs,
)
from theria_lint.worker.find_call.choose_arguments import QKV
from theria_lint.worker.find_call.run_trial import CallSearch, CannotCallError, WorkingCall
from theria_lint.worker.shims.shim_log import ShimLog

_BUDGET = 2.0
"""Seconds after which no further layout of a variant is tried."""

_OPTIONAL = re.compile(r"mask|bias|slopes|alibi|len(s|gths)$|seqlens$|(segment|seq|position)_ids|sinks?$|^(cos|sin)$")
"""What the names of optional arguments look like that change what a function computes of q, k and v."""

_WITH_VALUE = range(2, 10)
"""The choices of an optional argument that give it a value: before them come the default and None."""

_SAME = 1e-3
"""The relative difference up to which a variant computes what the plain call does."""


def find_branch_specs(working_call: WorkingCall) -> dict[str, TrialSpec]:
    """Specs in which a function runs otherwise, by what is said of them.

    Sequences of different lengths laid end to end, where optional arguments tell their ends; and heads of q that share
    those of k and v, where its text speaks of such. What it computes there has to be what it computes for each
    sequence alone, and for keys that are repeated: else it was not called as it wants to be. And the optional masks,
    lengths and biases of a function, as far as they go together.
    """
    made, spec, found = working_call.make_call(), working_call.spec, dict[str, TrialSpec | None]()
    if made.module is not None:
        return dict(_find_optional_argument_specs(working_call))
    slow = _runs_interpreted_kernels(made, spec, working_call.log)
    if working_call.strategy.takes_varlen and not spec.packed:
        likely = sorted(PACKED, key=lambda name: PACKED[name] != spec.layout)
        found[Configuration.PACKED_SEQUENCES] = _find_first_fitting_spec(
            working_call, [_make_packed_spec(working_call, name) for name in likely], slow
        )
    if working_call.strategy.shares_keys and spec.layout in LAYOUTS:
        shape = replace(spec.shape, heads=2 * spec.shape.heads)
        names = [name for name in SHARED if query_layout(name) == spec.layout and "g" in name]
        found[Configuration.SHARED_KEYS] = _find_first_fitting_spec(
            working_call, [replace(spec, layout=name, shape=shape) for name in names], slow
        )
    if working_call.strategy.optional and not slow:
        found |= _find_optional_argument_specs(working_call)
    return {name: spec for name, spec in found.items() if spec is not None}


def _find_optional_argument_specs(working_call: WorkingCall) -> dict[str, TrialSpec]:
    """The spec with as many masks, lengths and the like as run together, each of which changes the output.

    Those that may be left out, and those that have to be given and were given as None.
    """
    search, spec, names = CallSearch(read_clock() + _BUDGET, working_call.log), working_call.spec, list[str]()
    strategy = working_call.strategy
    try:
        for group in _group_partners(
            n
            for n in (*strategy.free, *strategy.optional)
            if _OPTIONAL.search(n)
            and not strategy.choice.get(n)
            and not n.startswith(CONSTRUCTOR_PREFIX)
            and (working_call.make_call().module is None or n not in strategy.tensors)
        ):
            found = next(_list_changing_specs(search, working_call, spec, group), None)
            if found is not None:
                spec = found
                names += group
    except CannotCallError:  # out of time
        pass
    return {label_configuration(Configuration.OPTIONAL_ARGUMENTS, *names): spec} if names else {}


def _group_partners(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The names that are given together: the cosines of a rotation say nothing without its sines."""
    found = list(dict.fromkeys(names))
    pairs = {name: re.sub("cos", "sin", name) for name in found if "cos" in name}
    partners = {cosine: sine for cosine, sine in pairs.items() if sine in found}
    return [(n, partners[n]) if n in partners else (n,) for n in found if n not in partners.values()]


def _list_changing_specs(
    search: CallSearch, working_call: WorkingCall, spec: TrialSpec, names: Sequence[str]
) -> Iterator[TrialSpec]:
    """Specs in which some arguments have a value, and the output is another than without."""
    for like in _list_lengths(spec):
        plain = replace(working_call, spec=like)
        for index in _WITH_VALUE:
            chosen = replace(like, choice={**spec.choice, **dict.fromkeys(names, index)})
            given = search.run_trial(working_call.strategy, chosen)
            if given is not None and _calls_give_different_outputs(plain, given):
                yield given.spec


def _list_lengths(spec: TrialSpec) -> list[TrialSpec]:
    """The spec, and with as many keys as queries: what has one number a position may fit no other."""
    square = replace(spec.shape, keys=spec.shape.queries)
    return [replace(spec, shape=shape) for shape in dict.fromkeys((spec.shape, square))]


def _calls_give_different_outputs(one: WorkingCall, other: WorkingCall) -> bool:
    """Whether two calls give different numbers in the same shape."""
    before, after = compute_outputs((one.make_call(), other.make_call()), one.spec.seed)
    return before.shape == after.shape and not torch.equal(before, after)


def _make_packed_spec(working_call: WorkingCall, layout: str) -> TrialSpec:
    """The spec in a packed layout, with keys as long as queries unless both have their own ends."""
    spec, strategy = working_call.spec, working_call.strategy
    keys = spec.shape.queries if takes_one_length((*strategy.free, *strategy.optional)) else spec.shape.keys
    return replace(spec, layout=layout, shape=replace(spec.shape, keys=keys))


def _runs_interpreted_kernels(made: BoundCall, spec: TrialSpec, log: ShimLog) -> bool:
    """Whether kernels are interpreted: without the reference as its oracle one more configuration takes too long."""
    launched = log.count_launches()
    trial(made.compute_output, made.inputs, spec.seed)
    return log.count_launches() > launched and spec.device == "cpu"


def _find_first_fitting_spec(working_call: WorkingCall, specs: Iterable[TrialSpec], slow: bool) -> TrialSpec | None:
    """The first spec in which the target runs and computes the same; softmax attention alone where it is slow."""
    search = CallSearch(read_clock() + _BUDGET, working_call.log)
    try:
        for spec in specs:
            found = search.run_trial(working_call.strategy, spec)
            if found is not None and _fits_working_call(working_call, found, slow):
                return spec
    except CannotCallError:  # out of time
        pass
    return None


def _fits_working_call(plain: WorkingCall, found: WorkingCall, slow: bool) -> bool:
    return found.agrees or (not (plain.agrees or slow) and _computes_same_values(plain, found))


def _computes_same_values(plain: WorkingCall, found: WorkingCall) -> bool:
    """Whether a variant gives what the plain call gives, part by part; packed gates and the like are taken on trust."""
    made, spec = found.make_call(), found.spec
    if list(made.inputs) != list(QKV):
        return spec.packed
    keys = key_layout(spec.layout)
    q, k, v = (to_bhtd(made.inputs[n], keys if n != "q" else query_layout(spec.layout)) for n in QKV)
    if not spec.packed:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    parts = [torch.split(t, sequence_lengths(t.shape[2]) if spec.packed else t.shape[2], 2) for t in (q, k, v)]
    try:
        truth = torch.cat([_compute_plain_output(plain, *part) for part in zip(*parts, strict=True)], 2)
        output = to_bhtd(trial(made.compute_output, made.inputs, spec.seed), query_layout(spec.layout))
    except Exception:  # code that was not written for us, at sizes that were not tried before
        return False
    return output.shape == truth.shape and relative_error(output, truth) < _SAME


def _compute_plain_output(working_call: WorkingCall, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The output (B,H,T,Dv) of the plain call for q (B,H,T,D), k and v."""
    batch, heads, queries, dim = q.shape
    shape = replace(working_call.spec.shape, batch=batch, heads=heads, queries=queries, keys=k.shape[2], dim=dim)
    spec = replace(working_call.spec, shape=shape)
    inputs = {n: from_bhtd(t, spec.layout).contiguous() for n, t in zip(QKV, (q, k, v), strict=True)}
    return to_bhtd(trial(working_call.make_call(spec).compute_output, inputs, spec.seed), spec.layout)


def find_floating_specs(working_call: WorkingCall, known: Collection[str]) -> dict[str, TrialSpec]:
    """Specs in which an argument that could be learned is a tensor of real numbers, and an input, by what is said.

    Where it is given otherwise, or not at all: masks as truth values, positions as whole numbers, a scale as a number.
    Of what is ``known`` to be an input elsewhere there is none.
    """
    strategy, found = working_call.strategy, dict[str, TrialSpec]()
    plain, search = working_call.make_call(), CallSearch(read_clock() + _BUDGET, working_call.log)
    names = [n for n in (*strategy.free, *strategy.optional) if not n.startswith(CONSTRUCTOR_PREFIX)]
    if any(map(is_number_by_convention, names)) and _returns_from_function(plain, working_call.spec.seed):
        names = [name for name in names if not is_number_by_convention(name)]
    try:
        for name in names:
            if may_be_learned(name) and name not in {**plain.inputs, **plain.extras, **dict.fromkeys(known)}:
                chosen = _find_floating_spec(working_call, name, search)
                if chosen is not None:
                    found[label_configuration(Configuration.FLOATING_ARGUMENT, name)] = chosen
    except CannotCallError:  # out of time
        pass
    return found


def _returns_from_function(made: BoundCall, seed: int) -> bool:
    """Whether what a call returns comes straight from an ``autograd.Function``."""
    leaves = {name: copy_strided(tensor).requires_grad_() for name, tensor in made.inputs.items()}
    return isinstance(call(made.compute_output, leaves, seed).grad_fn, BackwardCFunction)


def _find_floating_spec(working_call: WorkingCall, name: str, search: CallSearch) -> TrialSpec | None:
    """The spec with the first tensor of real numbers for a parameter with which the output is another."""
    strategy = working_call.strategy
    for spec, index in product(_list_lengths(working_call.spec), range(1, MAX_CANDIDATES + 1)):
        chosen = replace(spec, choice={**spec.choice, name: index})
        try:
            if name not in strategy(chosen).extras:
                continue
        except Exception:  # no such candidate, or one that the target does not take
            continue
        given = search.run_trial(strategy, replace(chosen, learned=(name,)))
        if given is not None and _depends_on(given, name):
            return given.spec
    return None


def _depends_on(working_call: WorkingCall, name: str) -> bool:
    """Whether a call gives other numbers for other numbers in one of its inputs."""
    made, seed = working_call.make_call(), working_call.spec.seed
    moved = {**made.inputs, name: made.inputs[name] * 0.75 + 0.1}
    here, there = (trial(made.compute_output, inputs, seed) for inputs in (made.inputs, moved))
    return here.shape == there.shape and not torch.equal(here, there)


MAX_OPTIONAL_TENSORS = 2
"""How many optional tensors are given: each is measured like another configuration."""

_SHAPE_CHOICES = 3
"""In how many shapes each is tried."""


def find_optional_tensor_specs(working_call: WorkingCall) -> dict[str, TrialSpec]:
    """Specs in which a module is given an optional tensor too, by what is said of them.

    Only where it runs with it, and its output is another then.
    """
    names = working_call.strategy.tensors if working_call.make_call().module is not None else ()
    search, found = CallSearch(read_clock() + _BUDGET, working_call.log), {}
    for name in (name for name in names if name not in working_call.strategy.choice):
        try:
            spec = next(_list_optional_tensor_specs(working_call, name, search), None)
        except CannotCallError:  # out of time
            break
        found.update({label_configuration(Configuration.OPTIONAL_ARGUMENTS, name): spec} if spec is not None else {})
        if len(found) == MAX_OPTIONAL_TENSORS:
            break
    return found


def _list_optional_tensor_specs(working_call: WorkingCall, name: str, search: CallSearch) -> Iterator[TrialSpec]:
    plain = working_call.make_call()
    for index in range(1, 1 + _SHAPE_CHOICES):
        spec = replace(working_call.spec, choice={**working_call.spec.choice, name: index})
        given = search.run_trial(working_call.strategy, spec)
        if given is None or name not in (call := given.make_call()).inputs:
            continue
        if not torch.equal(*compute_outputs((plain, call), spec.seed)):
            yield spec
