"""List the configurations that a target is probed in: each can show a wrong gradient that the others do not."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from theria.probes.layouts import ODD, ROUND
from theria.probes.point import trial
from theria_lint.model import Configuration, label_configuration
from theria_lint.worker.base_attention import SdpaCounter
from theria_lint.worker.clock import read_clock
from theria_lint.worker.configurations.compared_numbers import find_magnitudes
from theria_lint.worker.configurations.further_calls import (
    find_branch_specs,
    find_floating_specs,
    find_optional_tensor_specs,
)
from theria_lint.worker.configurations.unreached_code import find_specs_by_code, keep_specs_by_code
from theria_lint.worker.find_call.argument_values import may_be_learned
from theria_lint.worker.find_call.call_strategy import RECORDED, TrialSpec, compute_outputs
from theria_lint.worker.find_call.computation import Outputs, are_alike, describe_computation
from theria_lint.worker.find_call.run_trial import WorkingCall
from theria_lint.worker.second_looks import find_gradient_mismatch
from theria_lint.worker.shims.no_codegen import run_uncompiled

_SMALL = replace(ROUND, batch=2, dim=6, value_dim=6)
"""With smaller defaults: a few heads of a few channels, and lengths that windows and buckets divide."""

_SLOW_CALL = 0.1
"""Seconds of processor time a call from which a longer sequence, which takes a hundred calls, is left out."""

_LENGTHS = (129, 256)
"""Past a chunk of any usual size, where what is carried from one to the next shows; some code wants whole chunks."""

_WITH_A_FLAG = frozenset((Configuration.FIRST_SIZES, Configuration.ROUND_SIZES, Configuration.ODD_SIZES))
"""What is measured with a flag turned in any case: beside it only what executes what it did not before.

The rest has been measured as the target is, and a flag is turned for the branch that it takes.
"""

Configurations = Mapping[str, TrialSpec]
"""The specs that a target is probed in, by what is said of them; it refuses some."""


def list_configurations(working_call: WorkingCall, outputs: Outputs) -> Configurations:
    """The spec that worked first, then others, each at a point of its own: some damage is there at some points only.

    They are smaller defaults, evaluation mode and optional tensors for a module, dropout, strided inputs, a causal
    mask, other sizes, packed sequences and heads that share keys where the target knows of them, and a longer sequence
    where no kernel is launched: to interpret one takes long, and to compile one that holds it in one tile.
    """
    spec = working_call.spec
    if working_call.strategy.callers:
        return _list_recorded_configurations(working_call, outputs)
    launched = working_call.log.count_launches()
    found = {str(Configuration.FIRST_SIZES): spec}
    if working_call.make_call().module is not None:
        found[Configuration.SMALLER_DEFAULTS] = find_gradient_mismatch(
            working_call, replace(spec, small=True, shape=_SMALL, seed=spec.seed + 1)
        )
        found[Configuration.EVALUATION_MODE] = replace(spec, evaluating=True)
    dropping = replace(spec, dropping=True)
    if _knows_dropout(working_call, dropping) and _gives_same_outputs(working_call, dropping):
        found[Configuration.DROPOUT] = dropping
    found[Configuration.STRIDED_INPUTS] = replace(spec, strided=True)
    masked = replace(spec, masking=True, shape=replace(spec.shape, keys=spec.shape.queries))
    if _specs_give_different_outputs(working_call, masked, replace(masked, masking=False)):
        found[Configuration.CAUSAL_MASK] = masked
    other = ROUND if spec.shape != ROUND else ODD
    if spec.shape.queries == spec.shape.keys:
        other = replace(other, keys=other.queries)
    found[Configuration.ROUND_SIZES if other.dim == ROUND.dim else Configuration.ODD_SIZES] = replace(spec, shape=other)
    found |= find_branch_specs(working_call) | find_optional_tensor_specs(working_call)
    found |= _with_learned(working_call, found)
    found |= find_floating_specs(working_call, {name for spec in found.values() for name in spec.learned})
    if _remembers(working_call):
        found[Configuration.SECOND_CALL] = replace(spec, called=True)
    if len(outputs.recorded) > 1:
        found[Configuration.ALL_OUTPUTS] = replace(spec, whole=True)
    for number in outputs.lost[:1]:
        found[label_configuration(Configuration.OUTPUT, number + 1)] = replace(spec, output=number)
    for length in _LENGTHS if working_call.log.count_launches() == launched else ():
        longer = replace(spec, shape=replace(spec.shape, batch=1, queries=length, keys=length))
        began = read_clock()
        if _try_compute_outputs(working_call, longer):
            if read_clock() - began < _SLOW_CALL:
                found[Configuration.LONGER_SEQUENCE] = longer
            break
    found = {name: replace(s, seed=s.seed or number) for number, (name, s) in enumerate(found.items())}
    if spec.turned:
        found = keep_specs_by_code(working_call, found, _WITH_A_FLAG)
    return found | find_specs_by_code(working_call, found.values()) | find_magnitudes(working_call)


def _list_recorded_configurations(working_call: WorkingCall, outputs: Outputs) -> Configurations:
    """The call that worked first, the other recorded ones, one with a causal mask, and all that the first returns."""
    spec, callers = working_call.spec, working_call.strategy.callers
    found: dict[str, TrialSpec] = {}
    for recorded in working_call.strategy.specs:
        number = recorded.choice[RECORDED]
        mark = f" ({number + 1})" if found else ""
        found[label_configuration(Configuration.RECORDED_CALL, callers[number] + mark)] = recorded
    for place in working_call.strategy.optional:
        masked = replace(spec, turned={**spec.turned, place: True})
        if _specs_give_different_outputs(working_call, masked, spec):
            label = label_configuration(Configuration.CAUSAL_MASK, place.rpartition(":")[2])
            found[label] = replace(masked, seed=len(callers) + 3)
    if working_call.strategy.shown and working_call.make_call().module is not None:
        found[Configuration.EVALUATION_MODE] = replace(spec, evaluating=True, seed=len(callers) + 4)
    if not spec.directional and _remembers(working_call):
        found[Configuration.SECOND_CALL] = replace(spec, called=True, seed=len(callers) + 1)
    if len(outputs.recorded) > 1:
        found[Configuration.ALL_OUTPUTS] = replace(spec, whole=True, seed=len(callers) + 2)
    for number in outputs.lost[:1]:
        found[label_configuration(Configuration.OUTPUT, number + 1)] = replace(spec, output=number)
    return found if spec.directional else found | find_magnitudes(working_call)


def _with_learned(working_call: WorkingCall, specs: Configurations) -> dict[str, TrialSpec]:
    """Specs with what is given beside the inputs as inputs: what adds to the logits, say, may be learned elsewhere.

    They come beside those without: where such a tensor changes the output by much more, it would hide what is lost.
    """
    found = {}
    for name, spec in specs.items():
        if name != Configuration.FIRST_SIZES and not spec.choice:
            continue
        names = tuple(extra for extra in working_call.make_call(spec).extras if may_be_learned(extra))
        if names and _try_compute_outputs(working_call, replace(spec, learned=names)):
            found[f"{name} + {label_configuration(Configuration.LEARNED, *names)}"] = replace(spec, learned=names)
    return found


def _remembers(working_call: WorkingCall) -> bool:
    """Whether the target computes something else, or cannot be differentiated, once it has been called."""
    spec = working_call.spec
    first, second = (describe_computation(working_call, replace(spec, called=called)) for called in (False, True))
    return first is not None and second is not None and not are_alike(first, second)


def keep_first_configuration(specs: Configurations) -> Configurations:
    """Under attention of ours that is known to be right one small spec shows what the target makes of it.

    In all specs the reference is measured. To interpret kernels takes long and so, on a GPU, does compiling for each.
    """
    name, first = next(iter(specs.items()))
    return {name: replace(first, shape=replace(first.shape, batch=1))}


def _specs_give_different_outputs(working_call: WorkingCall, spec: TrialSpec, other: TrialSpec) -> bool:
    """Whether both specs run and give different outputs."""
    found = _try_compute_outputs(working_call, spec, other)
    return bool(found) and not torch.equal(found[0], found[1])


def _knows_dropout(working_call: WorkingCall, dropping: TrialSpec) -> bool:
    """Whether an argument says what part is dropped, or something is."""
    strategy = working_call.strategy
    named = any("drop" in name.lower() for name in (*strategy.free, *strategy.optional))
    return named or _specs_give_different_outputs(working_call, dropping, working_call.spec)


def _gives_same_outputs(working_call: WorkingCall, spec: TrialSpec) -> bool:
    """Whether what is drawn depends on nothing but the seed: else differences tell nothing."""
    outputs = _try_compute_outputs(working_call, spec, times=4)
    return bool(outputs) and all(torch.equal(outputs[0], other) for other in outputs)


def _try_compute_outputs(working_call: WorkingCall, *specs: TrialSpec, times: int = 1) -> list[Tensor]:
    """What the target gives in some specs, nothing where it refuses one; nothing is compiled for their sizes yet."""
    try:
        with run_uncompiled():
            calls = [made for spec in specs for made in [working_call.make_call(spec)] * times]
            return compute_outputs(calls, specs[0].seed)
    except Exception:  # code that was not written for us, at sizes that were not tried before
        return []


_SHAPES = (ROUND, replace(ROUND, dim=64, value_dim=64))
"""Of the kind that is used in practice: as many channels in v as in q, and a power of two of them."""


TRAINED_IN = (torch.bfloat16, torch.float16, torch.float32)


def list_training_specs(working_call: WorkingCall) -> Configurations:
    """Specs in the precisions that people train in, at sizes that fused kernels take; by their names."""
    specs = {}
    for dtype in TRAINED_IN:
        name = str(dtype).removeprefix("torch.")
        for shape in (_SHAPES[1], working_call.spec.shape):
            spec = replace(working_call.spec, dtype=dtype, shape=shape, seed=1)
            with suppress(Exception):  # code that was not written for us, at sizes that were not tried before
                made = working_call.make_call(spec)
                trial(made.compute_output, made.inputs, spec.seed)
                specs[name] = spec
                break
    return specs


def find_fused_kernel_call(working_call: WorkingCall, sdpa: SdpaCounter) -> WorkingCall | None:
    """The call in the first of some specs in which a fused kernel runs; None where none does.

    Such kernels want heads apart: a module that takes q, k, v is given them in other ways too than the one that worked.
    On a GPU they take no float64.
    """
    precise = working_call.spec.dtype
    dtypes = [precise] if working_call.spec.device == "cpu" else [*TRAINED_IN[:2], precise]
    strategy = working_call.strategy
    others = [replace(strategy, make=make) for make in strategy.siblings if make is not strategy.make]
    ways = [(strategy, working_call.spec.layout), *((other, "bhtd") for other in others)]
    for way, layout in ways:
        for shape, dtype in product(_SHAPES, dtypes):
            spec, before = replace(working_call.spec, shape=shape, dtype=dtype, layout=layout, seed=1), sdpa.fused
            with suppress(Exception):  # code that was not written for us, at sizes that were not tried before
                made = way(spec)
                trial(made.compute_output, made.inputs, spec.seed)
            if sdpa.fused > before:
                return replace(working_call, strategy=way, spec=spec)
    return None
