"""Call a helper as its package does: run a function that calls it and record the arguments that it is given."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor

from theria.probes.point import copy_strided, trial
from theria_lint.model import TargetKind
from theria_lint.static import attention_names
from theria_lint.worker.find_call.call_strategy import BoundCall, CallStrategy
from theria_lint.worker.find_call.function_calls import read_forward_parameters
from theria_lint.worker.find_call.introspection import read_parameters
from theria_lint.worker.find_call.run_trial import OutsideGraphError, WorkingCall
from theria_lint.worker.find_call.trial_spec import TrialSpec

MAX_CALLERS = 3
"""How many callers are tried."""

_HALVES = frozenset({"bwd", "backward", "grad", "vjp", "jvp"})


def find_callers(target: Any) -> Iterator[Any]:
    """The functions of q, k and v in the target's package that reach it, the nearest first, those of its file first."""
    known, calls = _read_package_calls(target)
    near, seen = {id(target)}, {id(target)}
    while near:
        near = {key for key, called in calls.items() if called & near} - seen
        seen |= near
        yield from (known[key] for key in known if key in near and _takes_qkv(known[key]))


def _read_package_calls(target: Any) -> tuple[dict[int, Any], dict[int, set[int]]]:
    """What a target's package defines, by identity, what its own file defines first; and what each of these names."""
    home = getattr(target, "__module__", "") or ""
    package = home.partition(".")[0]
    modules = [m for name, m in list(sys.modules.items()) if name == home or name.startswith(package + ".")]
    modules.sort(key=lambda module: module.__name__ != home)
    known = {id(held): held for module in modules for held in _list_package_functions(module)}
    return known, {key: _find_named_globals(held) for key, held in known.items()}


def is_autograd_function_part(target: Any) -> bool:
    """Whether its package names a helper in the forward or backward of an ``autograd.Function`` alone, if at all."""
    known, calls = _read_package_calls(target)
    near, seen, inside = {id(target)}, {id(target)}, False
    while near:
        near = {key for key, called in calls.items() if called & near} - seen
        seen |= near
        functions = {key for key in near if inspect.isclass(known[key])}
        inside = inside or bool(functions)
        near -= functions
        if any(not any(key in called for called in calls.values()) for key in near):
            return False
    return inside


def _list_package_functions(module: Any) -> Iterator[Any]:
    """The functions and ``autograd.Function`` classes that a module defines."""
    for held in list(vars(module).values()):
        if getattr(held, "__module__", None) != module.__name__:
            continue
        if isinstance(held, FunctionType) or (inspect.isclass(held) and issubclass(held, torch.autograd.Function)):
            yield held


def _find_named_globals(held: Any) -> set[int]:
    """The identities of the global objects that a function, or the forward or backward of a Function, names."""
    halves = [getattr(held, name) for name in ("forward", "backward") if inspect.isclass(held) and hasattr(held, name)]
    found: set[int] = set()
    for function in map(inspect.unwrap, halves or [held]):
        code, known = getattr(function, "__code__", None), getattr(function, "__globals__", {})
        found |= {id(known[name]) for name in _list_code_names(code) if name in known} if code else set()
    return found


def _list_code_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _list_code_names(constant)


def _takes_qkv(held: Any) -> bool:
    if inspect.isclass(held) or not _HALVES.isdisjoint(attention_names.split_words(held.__name__)):
        return False
    return attention_names.takes_qkv(list(read_parameters(held)))


@dataclass
class _RecordedCall:
    """The first call of a helper that autograd watched: its arguments. ``unwatched``: there were others."""

    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    unwatched: bool = False

    def list_graph_tensors(self, names: Sequence[str]) -> dict[int | str, tuple[str, Tensor]]:
        """The arguments that are in the graph, by place or keyword, each with the name of its parameter."""
        given: dict[int | str, tuple[str, Any]] = {name: (name, value) for name, value in self.kwargs.items()}
        given |= {i: (name, value) for i, (name, value) in enumerate(zip(names, self.args or (), strict=False))}
        return {key: (n, t) for key, (n, t) in given.items() if isinstance(t, Tensor) and t.requires_grad}


def make_recorded_strategy(target: Any, kind: TargetKind, caller: WorkingCall) -> CallStrategy:
    """The way to call a target as a caller does, in any spec that the caller can be called in."""

    def make(spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        return _make_recorded_call(target, kind, caller.make_call(spec), spec)

    home = getattr(target, "__module__", None) or ""
    return CallStrategy(
        make,
        (),
        home=home,
        takes_varlen=caller.strategy.takes_varlen,
        shares_keys=caller.strategy.shares_keys,
        watched=True,
    )


def _make_recorded_call(target: Any, kind: TargetKind, outer: BoundCall, spec: TrialSpec) -> BoundCall:
    """The target bound to what a call of its caller hands to it.

    Raises:
        PartError: if it is called outside the graph alone.
        TypeError: if it is not called, or with nothing to differentiate.
    """
    opaque = kind is TargetKind.AUTOGRAD_FUNCTION
    names = list(read_forward_parameters(target) if opaque else read_parameters(target))
    recorded = _RecordedCall()
    with _record_calls(target, opaque, recorded):
        trial(outer.compute_output, outer.inputs, spec.seed)
    if recorded.args is None and recorded.unwatched:
        raise OutsideGraphError
    places = recorded.list_graph_tensors(names)
    if not places:
        raise TypeError("its caller does not give it anything to differentiate")
    args = [_detach_value(value) for value in recorded.args or ()]
    kwargs = {name: _detach_value(value) for name, value in recorded.kwargs.items()}
    function = target.apply if opaque else target

    def bound(*values: Tensor) -> Any:
        given = dict(zip(places, values, strict=True))
        placed = [given.get(i, value) for i, value in enumerate(args)]
        return function(*placed, **{name: given.get(name, value) for name, value in kwargs.items()})

    inputs = _name_by_role(dict(places.values()))
    known = {name: tensor.shape for name, tensor in spec.make_qkv().items()}
    same = {name: tensor.shape for name, tensor in inputs.items()} == known and list(inputs) == list(known)
    return BoundCall(bound, inputs, outer.expected, spec.layout if same else None)


def _name_by_role(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies with q, k and v under these names, unless two would share one."""
    roles = [attention_names.get_role(name) or name for name in tensors]
    names = roles if len(set(roles)) == len(roles) else list(tensors)
    return {name: copy_strided(tensor) for name, tensor in zip(names, tensors.values(), strict=True)}


def _detach_value(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


@contextmanager
def _record_calls(target: Any, opaque: bool, recorded: _RecordedCall) -> Iterator[None]:
    """Puts a recorder in the place of a target, wherever a module holds it."""
    if opaque:
        target.apply = staticmethod(_make_recorder(target.apply, recorded))
        try:
            yield
        finally:
            del target.apply
        return
    stand_in = _make_recorder(target, recorded)
    holders = [getattr(module, "__dict__", {}) for module in list(sys.modules.values())]
    places = [(held, name) for held in holders for name, value in list(held.items()) if value is target]
    for held, name in places:
        held[name] = stand_in
    try:
        yield
    finally:
        for held, name in places:
            held[name] = target


def _make_recorder(function: Callable[..., Any], recorded: _RecordedCall) -> Callable[..., Any]:
    @functools.wraps(function)
    def recorder(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            recorded.unwatched = True
        elif recorded.args is None:
            recorded.args, recorded.kwargs = args, kwargs
        return function(*args, **kwargs)

    return recorder
