"""Which layout a target means: what its text says, and what running it shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from theria.probes.layouts import PACKED, SHARED
from theria.probes.point import trial
from theria_lint.dynamic.worker.calling import packing
from theria_lint.dynamic.worker.calling.calls import Way
from theria_lint.dynamic.worker.calling.search import Binding
from theria_lint.dynamic.worker.calling.ways import layouts
from theria_lint.dynamic.worker.calling.written import Symbols, layout_of, source_of
from theria_lint.model import TargetKind
from theria_lint.static import words

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
    found = {role: layout_of(symbols) for name, symbols in written.items() if (role := words.role(name))}
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
    needed = [name for way in known for name in way.free if packing.tells_borders(name)]
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
