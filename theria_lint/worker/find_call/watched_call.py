"""Watch how a target is called by functions of its package, or by code of docs and tests, and call it like that."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from theria.probes.point import copy_strided, trial
from theria_lint.calls.constructions import watch_modules
from theria_lint.calls.recorder import CallRecorder
from theria_lint.model import TargetKind
from theria_lint.reasons import CodedError, Reason, ReasonCode
from theria_lint.static import attention_names
from theria_lint.time_limit import OutOfTimeError, limit_processor_time
from theria_lint.worker.find_call.call_strategy import BoundCall, CallStrategy, TrialSpec
from theria_lint.worker.find_call.run_trial import OutsideGraphError, WorkingCall
from theria_lint.worker.find_call.signatures import read_forward_parameters, read_parameters

MAX_CALLERS = 3
"""How many callers are tried."""

_HALVES = frozenset({"bwd", "backward", "grad", "vjp", "jvp"})


def find_callers(target: Any) -> Iterator[Any]:
    """The functions of q, k and v in the target's package that reach it, the nearest first, those of its file first."""
    known, calls = _read_package_calls(target)
    yield from (user for user in _iter_users(target, known, calls) if _takes_qkv(user))


def _iter_users(target: Any, known: Mapping[int, Any], named: Mapping[int, set[int]]) -> Iterator[Any]:
    """What names a target, and what names that, the nearest first."""
    near, seen = {id(target)}, {id(target)}
    while near:
        near = {key for key, names in named.items() if names & near} - seen
        seen |= near
        yield from (known[key] for key in known if key in near)


def _list_package_modules(home: str) -> list[ModuleType]:
    """A module, and after it the others of its package that are imported; what else stands among them is left out."""
    package = home.partition(".")[0]
    held = [m for name, m in list(sys.modules.items()) if name == home or name.startswith(package + ".")]
    return sorted((m for m in held if isinstance(m, ModuleType)), key=lambda module: module.__name__ != home)


def find_owners(target: type) -> Iterator[type]:
    """The modules in a module's package whose constructors name it, or what names it, the nearest first."""
    known = {
        id(held): held
        for module in _list_package_modules(target.__module__)
        for held in list(vars(module).values())
        if inspect.isclass(held) and issubclass(held, nn.Module) and held.__module__ == module.__name__
    }
    yield from _iter_users(target, known, {key: _find_named_globals(held.__init__) for key, held in known.items()})


def _read_package_calls(target: Any) -> tuple[dict[int, Any], dict[int, set[int]]]:
    """What a target's package defines, by identity, what its own file defines first; and what each of these names."""
    modules = _list_package_modules(getattr(target, "__module__", "") or "")
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
class _WatchedCall:
    """The first call of a helper that autograd watched: its arguments. ``unwatched``: there were others."""

    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    unwatched: bool = False

    def list_graph_tensors(self, names: Sequence[str]) -> dict[int | str, tuple[str, Tensor]]:
        """The arguments that are in the graph, by place or keyword, each with the name of its parameter."""
        given: dict[int | str, tuple[str, Any]] = {name: (name, value) for name, value in self.kwargs.items()}
        given |= {i: (name, value) for i, (name, value) in enumerate(zip(names, self.args or (), strict=False))}
        return {key: (n, t) for key, (n, t) in given.items() if isinstance(t, Tensor) and t.requires_grad}


def make_watched_strategy(target: Any, kind: TargetKind, caller: WorkingCall) -> CallStrategy:
    """The way to call a target as a caller does, in any spec that the caller can be called in."""

    def make(spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        return _bind_watched_call(target, kind, caller.make_call(spec), spec)

    home = getattr(target, "__module__", None) or ""
    return CallStrategy(
        make,
        (),
        home=home,
        takes_varlen=caller.strategy.takes_varlen,
        shares_keys=caller.strategy.shares_keys,
        watched=True,
    )


def _bind_watched_call(target: Any, kind: TargetKind, outer: BoundCall, spec: TrialSpec) -> BoundCall:
    """The target bound to what a call of its caller hands to it.

    Raises:
        PartError: if it is called outside the graph alone.
        CodedError: if it is not called, or with nothing to differentiate.
    """
    opaque = kind is TargetKind.AUTOGRAD_FUNCTION
    names = list(read_forward_parameters(target) if opaque else read_parameters(target))
    watched = _WatchedCall()
    with _watch_calls(target, opaque, watched):
        trial(outer.compute_output, outer.inputs, spec.seed)
    if watched.args is None and watched.unwatched:
        raise OutsideGraphError
    places = watched.list_graph_tensors(names)
    if not places:
        raise CodedError(ReasonCode.NO_TENSOR_FROM_CALLER)
    args = [_detach_value(value) for value in watched.args or ()]
    kwargs = {name: _detach_value(value) for name, value in watched.kwargs.items()}
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
def _watch_calls(target: Any, opaque: bool, watched: _WatchedCall) -> Iterator[None]:
    """Put a watcher in the place of a target, wherever a module holds it."""
    if opaque:
        target.apply = staticmethod(_make_watcher(target.apply, watched))
        try:
            yield
        finally:
            del target.apply
        return
    stand_in = _make_watcher(target, watched)
    holders = [getattr(module, "__dict__", {}) for module in list(sys.modules.values())]
    places = [(held, name) for held in holders for name, value in list(held.items()) if value is target]
    for held, name in places:
        held[name] = stand_in
    try:
        yield
    finally:
        for held, name in places:
            held[name] = target


def _make_watcher(function: Callable[..., Any], watched: _WatchedCall) -> Callable[..., Any]:
    @functools.wraps(function)
    def watcher(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            watched.unwatched = True
        elif watched.args is None:
            watched.args, watched.kwargs = args, kwargs
        return function(*args, **kwargs)

    return watcher


SECONDS = 5.0
"""Processor time that an example may take to come to its call."""

MOST_EXAMPLES = 3
"""How many examples are called."""


class _CallSeenError(BaseException):
    """The call that was waited for: nothing behind it is run. No `Exception`, for code under test catches those."""

    def __init__(self, call: dict[str, Any] | None) -> None:
        super().__init__()
        self.call = call


class _FirstCall(CallRecorder):
    """Stops at the first call of one target."""

    def __init__(self, symbol: str, kind: str) -> None:
        super().__init__({"targets": {"": {symbol: kind}}, "names": {"": ""}, "spool": ""})

    def keep(self, name: str, document: dict[str, Any], tensors: dict[str, Any]) -> None:
        """End the example: here is its call."""
        raise _CallSeenError({"document": document, "kept": tensors})

    def _write_loss(self, path: str, symbol: str, why: Reason) -> None:
        raise _CallSeenError(None)


def record_examples(target: Any, kind: TargetKind, examples: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The calls of a target by those of some examples that come to one; each names its source as the caller."""
    found: list[dict[str, Any]] = []
    for example in examples:
        call = _run_example(target, kind, example["code"]) if len(found) < MOST_EXAMPLES else None
        if call is not None:
            call["document"]["caller"] = example["source"]
            found.append(call)
    return found


def record_owner(target: Any, owner: type, call: WorkingCall) -> dict[str, Any] | None:
    """The first call of a module by an owner, which builds it, in a call of the owner; None where there is none."""
    try:
        with _watched(target, TargetKind.MODULE):
            made = call.make_call()
            trial(made.compute_output, made.inputs, call.spec.seed)
    except _CallSeenError as seen:
        if seen.call is not None:
            seen.call["document"]["caller"] = owner.__qualname__
        return seen.call
    except Exception:  # code that was not written for us
        return None
    return None


def _run_example(target: Any, kind: TargetKind, code: str) -> dict[str, Any] | None:
    space = dict(vars(sys.modules[target.__module__]))
    try:
        with _watched(target, kind) as watched, limit_processor_time(SECONDS), torch.random.fork_rng([]):
            _bind(space, target, watched)
            for statement in ast.parse(code).body:
                imports = isinstance(statement, ast.Import | ast.ImportFrom)
                with suppress(*((ImportError,) if imports else ())):
                    exec(compile(ast.Module([statement], []), "<example>", "exec"), space)
                if imports:
                    _bind(space, target, watched)
    except _CallSeenError as seen:
        return seen.call
    except (Exception, SystemExit, OutOfTimeError):  # code that was not written for us
        return None
    return None


def _bind(space: dict[str, Any], target: Any, watched: Any) -> None:
    """Put what is watched wherever the target stands, also if it was imported by another name of its module."""
    space.setdefault("torch", torch)
    space.setdefault("nn", nn)
    for name, held in list(space.items()):
        alike = getattr(held, "__qualname__", None) == target.__qualname__ and type(held) is type(target)
        if held is target or (alike and inspect.getsourcefile(held) == inspect.getsourcefile(target)):
            space[name] = watched


@contextmanager
def _watched(target: Any, kind: TargetKind) -> Iterator[Any]:
    """What stands for a target while its calls are watched; all is as it was after that."""
    recorder, init = _FirstCall(target.__qualname__, kind), nn.Module.__init__
    before = dict(vars(target)) if inspect.isclass(target) else {}
    watch_modules()
    watched = recorder.make_decorator("", target.__qualname__, kind)(target)
    top = (target.__module__ or "").partition(".")[0]
    modules = [m for name, m in list(sys.modules.items()) if name.partition(".")[0] == top]
    places = [(vars(m), name) for m in modules for name, held in list(vars(m).items()) if held is target]
    for place, name in places:
        place[name] = watched
    try:
        yield watched
    finally:
        nn.Module.__init__ = init  # type: ignore[method-assign]
        for place, name in places:
            place[name] = target
        for name in ("__init__", "__call__", "forward", "apply") if before else ():
            if name in before:
                setattr(target, name, before[name])
            elif name in vars(target):
                delattr(target, name)
