"""The detectors, one module a rule, registered by the name that a rule gives in ``detector``.

A detector takes a `ModuleView` and a `Rule` and yields hits. It knows nothing of the prefilter.
"""

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
from theria_lint.static.module_view import Hit, ModuleView

Detector = Callable[[ModuleView, Rule], Iterator[Hit]]

DETECTORS: Mapping[str, Detector] = {
    "names": listed_names.find_listed_names,
    "once-differentiable": once_differentiable.find_once_differentiable,
    "opaque-backward": opaque_backward.find_opaque_backwards,
    "saved-intermediate": saved_intermediate.find_saved_intermediates,
    "inner-grad": inner_grad.find_inner_gradients,
    "checkpoint": fused_attention.find_checkpoints,
    "fused": fused_attention.find_fused_calls,
    "compile": compiled_attention.find_compiled_attention,
    "graph-escape": graph_escape.find_graph_escapes,
    "hook": hook_cut.find_hook_cuts,
    "straight-through": straight_through.find_straight_through,
}
