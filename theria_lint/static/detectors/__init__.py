"""The detectors, by the name that a rule gives in ``detector``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..code import Hit, ModuleCode
from ..rules import Rule
from . import compiled, escape, fused, hooks, inner, named, opaque, saved, straight

Detector = Callable[[ModuleCode, Rule], Iterator[Hit]]

DETECTORS: Mapping[str, Detector] = {
    "names": named.find,
    "once-differentiable": opaque.find_decorators,
    "opaque-backward": opaque.find,
    "saved-intermediate": saved.find,
    "inner-grad": inner.find,
    "checkpoint": fused.find_checkpoints,
    "fused": fused.find,
    "compile": compiled.find,
    "graph-escape": escape.find,
    "hook": hooks.find,
    "straight-through": straight.find,
}
