"""Finds by running how a target wants to be called: the layout, the sizes, the dtype."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from theria.probes.layouts import PACKED, SHARED
from theria.probes.point import trial
from theria.probes.qkv import ODD, Shape
from theria_lint.model import TargetKind
from theria_lint.static import attention_names
from theria_lint.worker.base_attention import base_attention
from theria_lint.worker.find_call import recorded_call, varlen
from theria_lint.worker.find_call.argument_values import CHUNKS, is_learned, may_be_differentiated
from theria_lint.worker.find_call.call_strategy import Way
from theria_lint.worker.find_call.hill_climb import climbing
from theria_lint.worker.find_call.run_trial import (
    Binding,
    CannotCallError,
    PartError,
    Refusal,
    Search,
    first_order,
    in_graph,
    raised_by_autograd,
)
from theria_lint.worker.find_call.shape_hints import Symbols, layout_of, shapes_in, source_of
from theria_lint.worker.find_call.strategies import layouts, ways
from theria_lint.worker.find_call.trial_spec import (
    KERNEL_SIZES,
    KERNEL_SIZES_ON_GPU,
    ONE_PROGRAM,
    SEVERAL_CHUNKS,
    SIZES,
    Scene,
)
from theria_lint.worker.shims import shim_log

PRECISE = (torch.float64, torch.float32)
FOR_KERNELS = (torch.float32, torch.float64)
"""In float64 the interpreter computes garbage where a compiler would refuse; few kernels are written for it, and a
forward that is right says nothing of the backward."""
HALF = (torch.bfloat16, torch.float16)

LONG = 0.05
"""Seconds a call from which smaller sizes are chosen where a constructor lets them be."""

FEW = 2
"""At how many sizes a call is tried that may fit better than one that runs."""

__all__ = ["Binding", "CannotCallError", "bind"]


def bind(target: Any, kind: TargetKind, device: str, hints: Mapping[str, Any], budget: float) -> Binding:
    """Tries ways, layouts, sizes and dtypes until one runs; among layouts, agreement with the reference decides.

    Where none runs with the likeliest arguments, other arguments are tried one after the other, each from the attempt
    that got furthest. A helper is called as the functions of its package call it, where one of them can be called.

    Args:
        target: the function, class or wrapper.
        kind: what it is.
        device: where the inputs live.
        hints: ``layout``, ``dtype`` and ``kwargs`` from the user's configuration.
        budget: seconds after which nothing more is tried.

    Raises:
        CannotCallError: if nothing ran.
    """
    part = None
    if _is_handed_on(target, kind) and not hints.get("kwargs"):
        try:
            binding = _as_called(target, kind, device, hints, budget / 2)
        except PartError as error:
            part = error
        else:
            if binding is not None:
                return binding
    try:
        binding = _directly(target, kind, device, hints, budget / 2 if part else budget)
    except CannotCallError as error:
        raise part or error from None
    alone = part is None and _is_handed_on(target, kind) and recorded_call.is_part(target)
    if (part or alone) and not in_graph(binding.call(), binding.scene.seed):
        raise part or PartError
    return binding


def _is_handed_on(target: Any, kind: TargetKind) -> bool:
    """Whether a target is one that functions call, and not an object that is built first."""
    return kind is TargetKind.AUTOGRAD_FUNCTION or (kind is TargetKind.FUNCTION and not inspect.isclass(target))


def _as_called(target: Any, kind: TargetKind, device: str, hints: Mapping[str, Any], budget: float) -> Binding | None:
    """The target with the arguments that a function of its package gives it; None where none can be seen to.

    Raises:
        PartError: if it runs outside the graph wherever it was seen to run.
    """
    deadline, part = time.monotonic() + budget, None
    for caller in islice(recorded_call.callers(target), recorded_call.MOST):
        try:
            outer = _directly(caller, TargetKind.FUNCTION, device, hints, deadline - time.monotonic())
            search = Search(deadline)
            found = search.attempt(recorded_call.observed_way(target, kind, outer), outer.scene)
        except PartError as error:
            part = error
        except CannotCallError:
            continue
        else:
            if found is not None:
                return found
    if part is not None:
        raise part
    return None


def _directly(target: Any, kind: TargetKind, device: str, hints: Mapping[str, Any], budget: float) -> Binding:
    """The target with arguments that are made up for it.

    Raises:
        CannotCallError: if nothing ran.
    """
    search = Search(time.monotonic() + budget)
    known = list(ways(target, kind, hints.get("kwargs", {})))
    written = {} if kind is TargetKind.MODULE else shapes_in(source_of(target))
    groups = [[hints["layout"].lower()]] if "layout" in hints else groups_of(target, kind, written, known)
    kernels = shim_log.holds_kernels(getattr(target, "__module__", None) or "")
    precise = FOR_KERNELS if kernels else PRECISE
    for dtypes in [(getattr(torch, hints["dtype"]),)] if "dtype" in hints else [precise, HALF]:
        plain = Scene(ODD, groups[0][0], dtypes[0], device, base_attention("reference"), written=written)
        scenes = [
            [
                [replace(plain, dtype=d, shape=s, layout=n) for n in layouts]
                for d in dtypes
                for s in _sizes(layouts, known, device if kernels else None)
            ]
            for layouts in groups
        ]
        binding = _in_some_layout(search, known, scenes)
        if binding is not None:
            precise_enough = binding if "dtype" in hints else _tamed(search, binding)
            return _widened(search, _smaller(search, _by_default(search, precise_enough), kind))
    raise search.refusal("nothing to try")


def _in_some_layout(search: Search, known: Sequence[Way], groups: Iterable[list[list[Scene]]]) -> Binding | None:
    """The first group's that runs; one that gives attention's shape or agrees with it before one that does not."""
    other: Binding | None = None
    for scenes in groups:
        likely = other is None and (":" not in scenes[0][0].layout or any(way.shares for way in known))
        found = _found(search, known, scenes if likely else scenes[:FEW], climb=likely)
        if found is not None and (found.agrees or (other is None and gives_expected(found))):
            return found
        other = other or found
    return other


def _sizes(layouts: Sequence[str], known: Sequence[Way], kernels: str | None) -> Sequence[Shape]:
    """The sizes to try in some layouts; ``kernels``: where the target's kernels run, None where it has none."""
    sizes = SIZES
    if kernels == "cpu":
        sizes = (*((ONE_PROGRAM,) if len(layouts) == 1 else ()), *KERNEL_SIZES)
    elif kernels is not None:
        sizes = KERNEL_SIZES_ON_GPU
    if layouts[0] in PACKED and any(varlen.takes_one_length((*way.free, *way.optional)) for way in known):
        return [size for size in sizes if size.queries == size.keys]
    return [replace(size, heads=2 * size.heads) for size in sizes] if layouts[0] in SHARED else sizes


def _found(search: Search, known: Sequence[Way], groups: Iterable[list[Scene]], *, climb: bool) -> Binding | None:
    """Each way with its likeliest arguments, in each scene; with other arguments where other sizes get no further.

    ``groups``: scenes that differ in layout alone. ``climb``: whether other arguments are tried at all.
    """
    stuck: tuple[Any, ...] = ()
    climbed = False
    layouts: set[str] = set()
    for scenes in groups:
        layouts |= {scene.layout for scene in scenes}
        count = len(search.refusals)
        binding = _plainly(search, known, scenes)
        if binding is None and climb and not climbed:
            last, stuck = stuck, _complaints(search.refusals[count:])
            climbed = stuck == last
            binding = climbing(search, layouts) if climbed else None
        if binding is not None:
            return binding
    return climbing(search, layouts) if climb else None


def _complaints(refusals: Iterable[Refusal]) -> tuple[Any, ...]:
    """What stopped some attempts and where, whatever the sizes were."""
    return tuple((refusal.scene.layout, refusal.progress, re.sub(r"\d+", "", refusal.reason)) for refusal in refusals)


def _plainly(search: Search, known: Sequence[Way], scenes: list[Scene]) -> Binding | None:
    """The first way that runs: in the layout that agrees with the reference, else in one that keeps heads apart."""
    for way in known:
        found = []
        for scene in scenes:
            binding = search.attempt(way, scene)
            if binding is not None and binding.agrees:
                return binding
            found += [binding] if binding is not None else []
        if found:
            return next((b for b in found if keeps_heads_apart(b)), found[0]) if len(found) > 1 else found[0]
    return None


def _tamed(search: Search, binding: Binding) -> Binding:
    """The same call in float32 where a kernel of another package turned out to run in float64."""
    if not search.interpreted or binding.scene.dtype is not torch.float64:
        return binding
    return search.attempt(binding.way, replace(binding.scene, dtype=torch.float32)) or binding


def _by_default(search: Search, binding: Binding) -> Binding:
    """The same call with its defaults, at the first size that takes them: made-up arguments may hide damage."""
    way, scene = binding.way, binding.scene
    needed = {name: index for name, index in way.choice.items() if name not in way.optional}
    if needed == dict(way.choice):
        return binding
    tries = (search.attempt(replace(way, choice=needed), replace(scene, shape=shape)) for shape in SIZES)
    return next((found for found in tries if found is not None), binding)


def _smaller(search: Search, binding: Binding, kind: TargetKind) -> Binding:
    """The same call with smaller sizes, where one takes long: finite differences make hundreds.

    A function that works in chunks gets short ones, for what is lost between two does not show in one.
    """
    scene = binding.scene
    if kind is TargetKind.MODULE:
        made, began = binding.call(), time.monotonic()
        trial(made.output, made.inputs, scene.seed)
        late = time.monotonic() - began > LONG
        return (search.attempt(binding.way, replace(scene, small=True)) if late else None) or binding
    if search.interpreted and binding.agrees and scene.shape.heads > 1:
        return search.attempt(binding.way, replace(scene, shape=replace(scene.shape, heads=1))) or binding
    if not search.interpreted and any(re.search(CHUNKS, name) for name in binding.way.optional):
        return search.attempt(binding.way, replace(scene, small=True, shape=SEVERAL_CHUNKS)) or binding
    return binding


def _widened(search: Search, binding: Binding) -> Binding:
    """The call with its gates, decays and other learned tensors among the inputs.

    Where the forward is softmax attention without them, they do nothing. What autograd says is unused is an input
    only if its name says that it is learned: an author may mean a tensor to be a constant.
    """
    names = tuple(name for name in binding.call().extras if may_be_differentiated(name))
    if not names or binding.agrees:
        return binding
    wide = replace(binding.way, joined=names)
    try:
        gradients = first_order(wide(binding.scene), binding.scene.seed)
    except Exception as error:
        if not raised_by_autograd(error):  # the probe of q, k and v tells what its own backward raises
            return binding
        gradients = dict.fromkeys(names)  # a decay that was overwritten since is safe only where it is a constant
    kept = tuple(name for name in names if gradients[name] is not None or is_learned(name))
    return (search.attempt(replace(wide, joined=kept), binding.scene) if kept else None) or binding


_HEADS_AXIS = {"bhtd": 1, "bthd": 2, "thd": 1, "htd": 0, "1thd": 2, "1htd": 1}
_TIME, _HEADS = r"(?:T|L|S|N|M|seqlen\w*|seq_?len\w*|time|seq|length)", r"(?:HV?|HQ|nheads\w*|num_heads|heads?)"
_TIME_FIRST = re.compile(rf"\b(?:B|batch\w*|bs?)\b[ ,x]+{_TIME}\b[ ,x]+{_HEADS}\b", re.IGNORECASE)
_HEADS_FIRST = re.compile(rf"\b(?:B|batch\w*|bs?)\b[ ,x]+{_HEADS}\b[ ,x]+{_TIME}\b", re.IGNORECASE)


def layouts_of(target: Any, kind: TargetKind, written: Mapping[str, Symbols]) -> Sequence[str]:
    """All layouts, the likeliest first: that of the query in the text, or the order that the text has more often."""
    names = list(layouts(kind))
    if kind is TargetKind.MODULE:
        return names
    likely = layout_by_text(written)
    if likely is None:
        source = source_of(target)
        likely = "bthd" if len(_TIME_FIRST.findall(source)) > len(_HEADS_FIRST.findall(source)) else names[0]
    return sorted(names, key=lambda name: name != likely)


def layout_by_text(written: Mapping[str, Symbols]) -> str | None:
    """The layout that the text gives to a query or, where it says nothing, to a key or a value."""
    found = {role: layout_of(symbols) for name, symbols in written.items() if (role := attention_names.role(name))}
    return found.get("q") or found.get("k") or found.get("v")


def groups_of(target: Any, kind: TargetKind, written: Mapping[str, Symbols], known: Sequence[Way]) -> list[list[str]]:
    """The layouts in groups, in the order in which they are worth a try; within one, running them decides.

    The first group is a single layout where the text tells it. Packed sequences come first where the code needs to be
    told their ends, and heads that share keys last: where they do not, those layouts run as well.
    """
    names = list(layouts_of(target, kind, written))
    if kind is TargetKind.MODULE:
        return [names]
    plain = [names[:1], names[1:]] if layout_by_text(written) == names[0] else [names]
    text = source_of(target)
    needed = [name for way in known for name in way.free if varlen.tells_borders(name)]
    packed = [list(PACKED)] if any(way.packs for way in known) else []
    if needed and not any(_may_be_none(name, text) for name in needed):
        return [*packed, *plain, list(SHARED)]
    return [*plain, *packed, list(SHARED)]


def _may_be_none(name: str, text: str) -> bool:
    return (
        re.search(rf"\b{re.escape(name)}\b\s+is\s+(not\s+)?None|\bif\s+(not\s+)?{re.escape(name)}\b", text) is not None
    )


def gives_expected(binding: Binding) -> bool:
    """Whether the output has the shape that attention's would have, as far as that is known."""
    made = binding.call()
    return made.expected is None or tuple(trial(made.output, made.inputs, binding.scene.seed).shape) == made.expected


def keeps_heads_apart(binding: Binding) -> bool:
    """Whether what one head is given leaves the output of another as it is: else the axis may be that of time.

    True where there are no two heads to tell apart.
    """
    made, scene = binding.call(), binding.scene
    axis = _HEADS_AXIS.get(scene.layout)
    if axis is None or "v" not in made.inputs or made.inputs["v"].dim() <= axis or scene.shape.heads < 2:
        return True
    rank = made.inputs["v"].dim()
    moved = dict(made.inputs)
    moved["v"] = moved["v"].clone()
    moved["v"].select(axis, 0).add_(1.0)
    outputs = [trial(made.output, inputs, scene.seed) for inputs in (made.inputs, moved)]
    if any(output.dim() != rank or output.shape[axis] != scene.shape.heads for output in outputs):
        return True
    first, second = (output.select(axis, 1) for output in outputs)
    return torch.allclose(first, second, rtol=1e-3, atol=1e-3 * float(first.abs().max()))
