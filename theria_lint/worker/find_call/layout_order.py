"""Order the layouts of q, k and v by what a target's text says of shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from theria.probes.layouts import PACKED, SHARED
from theria_lint.model import TargetKind
from theria_lint.static import attention_names
from theria_lint.worker.find_call.argument_values import is_varlen_argument
from theria_lint.worker.find_call.call_strategy import CallStrategy
from theria_lint.worker.find_call.signatures import Symbols, find_layout, read_source_text

_TIME, _HEADS = r"(?:T|L|S|N|M|seqlen\w*|seq_?len\w*|time|seq|length)", r"(?:HV?|HQ|nheads\w*|num_heads|heads?)"
_TIME_FIRST = re.compile(rf"\b(?:B|batch\w*|bs?)\b[ ,x]+{_TIME}\b[ ,x]+{_HEADS}\b", re.IGNORECASE)
_HEADS_FIRST = re.compile(rf"\b(?:B|batch\w*|bs?)\b[ ,x]+{_HEADS}\b[ ,x]+{_TIME}\b", re.IGNORECASE)


def order_layouts(names: Sequence[str], target: Any, text_shapes: Mapping[str, Symbols]) -> list[str]:
    """The layouts, the likeliest first: that of the query in the text, or the order that the text has more often."""
    likely = find_layout_in_text(text_shapes)
    if likely is None:
        source = read_source_text(target)
        likely = "bthd" if len(_TIME_FIRST.findall(source)) > len(_HEADS_FIRST.findall(source)) else names[0]
    return sorted(names, key=lambda name: name != likely)


def find_layout_in_text(text_shapes: Mapping[str, Symbols]) -> str | None:
    """The layout that the text gives to a query or, where it says nothing, to a key or a value."""
    found = {
        role: find_layout(symbols) for name, symbols in text_shapes.items() if (role := attention_names.get_role(name))
    }
    return found.get("q") or found.get("k") or found.get("v")


def group_layouts(
    known: Sequence[str],
    target: Any,
    kind: TargetKind,
    text_shapes: Mapping[str, Symbols],
    strategies: Sequence[CallStrategy],
) -> list[list[str]]:
    """The ``known`` layouts in groups, in the order in which they are worth a try; within one, running them decides.

    The first group is a single layout where the text tells it. Packed sequences come first where the code needs to be
    told their ends, and heads that share keys last: where they do not, those layouts run as well.
    """
    if kind is TargetKind.MODULE:
        return [list(known)]
    names = order_layouts(known, target, text_shapes)
    plain = [names[:1], names[1:]] if find_layout_in_text(text_shapes) == names[0] else [names]
    text = read_source_text(target)
    needed = [name for strategy in strategies for name in strategy.free if is_varlen_argument(name)]
    packed = [list(PACKED)] if any(strategy.takes_varlen for strategy in strategies) else []
    if needed and not any(_may_be_none(name, text) for name in needed):
        return [*packed, *plain, list(SHARED)]
    return [*plain, *packed, list(SHARED)]


def _may_be_none(name: str, text: str) -> bool:
    return (
        re.search(rf"\b{re.escape(name)}\b\s+is\s+(not\s+)?None|\bif\s+(not\s+)?{re.escape(name)}\b", text) is not None
    )
