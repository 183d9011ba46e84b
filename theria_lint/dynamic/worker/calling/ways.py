"""Every kind of target, and how it may want to be called: the likeliest way first."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from theria_lint.dynamic.worker.calling.axes import WEIGHTS
from theria_lint.dynamic.worker.calling.calls import Way
from theria_lint.dynamic.worker.calling.functions import forward_parameters, function_way, object_way, wrapped_call
from theria_lint.dynamic.worker.calling.graphs import is_graph
from theria_lint.dynamic.worker.calling.inputs import FEATURES
from theria_lint.dynamic.worker.calling.modules import module_ways
from theria_lint.dynamic.worker.calling.shaping import required, shaped_way
from theria_lint.dynamic.worker.calling.signatures import QKV, parameters_of
from theria_lint.model import TargetKind
from theria_lint.static import words


def ways(target: Any, kind: TargetKind, fixed: Mapping[str, Any]) -> Iterator[Way]:
    """The ways to call a target, the likeliest first; ``fixed`` holds arguments that the user has configured.

    Raises:
        TypeError: if the object cannot be called as its kind says.
    """
    if kind is TargetKind.MODULE:
        yield from module_ways(target, fixed)
    elif kind is TargetKind.AUTOGRAD_FUNCTION:
        yield function_way(target.apply, forward_parameters(target), fixed, positional=True)
    elif kind is TargetKind.WRAPPER and not words.takes_qkv(list(parameters_of(target))):
        yield Way(lambda scene, choice: wrapped_call(target, scene, fixed), ())
    elif inspect.isclass(target):
        yield object_way(target, fixed)
    elif takes_any_tensors(target):
        yield shaped_way(target, parameters_of(target), fixed)
    else:
        yield function_way(target, parameters_of(target), fixed, positional=False)


def takes_any_tensors(target: Any) -> bool:
    """Whether a function takes other tensors than q, k and v: not these by name, nor three that could be these."""
    parameters = parameters_of(target)
    if words.takes_qkv(list(parameters)) or words.takes_packed(list(parameters)):
        return False
    names = required(parameters)
    telling = any(is_graph(name) or WEIGHTS.search(name) for name in names)
    return telling or (len(names) != len(QKV) and bool(names))


def layouts(kind: TargetKind) -> Sequence[str]:
    """The layouts to try: modules mostly take (B,T,C), functions (B,H,T,D)."""
    return tuple(FEATURES) if kind is TargetKind.MODULE else ("bhtd", "bthd", "btd", "td")
