"""The detectors, by the name that a rule gives in ``detector``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from theria_lint.rules.loader import Rule
from theria_lint.static.detectors import (
    compiled_attention,
    fused_attention,
    graph_escape,
    hook_cut,
    inner_grad,
    listed_names,
    once_differentiable,
    opaque_backward,
    saved_intermediate,
    straight_through,
)
from theria_lint.static.module_view import Hit, ModuleCode

Detector = Callable[[ModuleCode, Rule], Iterator[Hit]]

DETECTORS: Mapping[str, Detector] = {
    "names": listed_names.find,
    "once-differentiable": once_differentiable.find,
    "opaque-backward": opaque_backward.find,
    "saved-intermediate": saved_intermediate.find,
    "inner-grad": inner_grad.find,
    "checkpoint": fused_attention.find_checkpoints,
    "fused": fused_attention.find,
    "compile": compiled_attention.find,
    "graph-escape": graph_escape.find,
    "hook": hook_cut.find,
    "straight-through": straight_through.find,
}
