"""Open what stands for a class: a partial, an instance or a method that a module has a name for; and records."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from types import FunctionType
from typing import Any

import torch
from torch import nn

from theria_lint.confirm.protocol import TargetRequest
from theria_lint.model import TargetKind
from theria_lint.static import attention_names
from theria_lint.worker.find_call.signatures import (
    read_constructor_parameters,
    read_parameters,
    read_type_hints,
)

COPIED_WIDTH = "_theria_width"
"""The attribute of a class that makes copies of a module: how wide its input is, None where nothing tells."""

# What layers of PyTorch call the width of what they take.
_WIDTHS = ("embed_dim", "in_features", "in_channels", "embedding_dim")


def open_target(target: Any, request: TargetRequest) -> tuple[Any, TargetRequest]:
    """What is called for a target, and the request for it: a class, where it is a partial, an instance or a method."""
    return open_instance(*open_partial(open_method(target, request), request))


def open_method(target: Any, request: TargetRequest) -> Any:
    """A module whose forward is a method of it, for one that is a target by itself; any other target as it is."""
    owner: Any = find_owner(target) if request.kind == TargetKind.MODULE else None
    if owner is None or not issubclass(owner, nn.Module):
        return target
    members = {"forward": target, "__module__": owner.__module__, "__qualname__": owner.__qualname__}
    return type(owner.__name__, (owner,), members)


def open_record(function: Any) -> Callable[..., Any] | None:
    """A function of the fields of a record, for one that takes q, k and v in such; None for any other."""
    if not isinstance(function, FunctionType):
        return None
    hints, parameters = read_type_hints(function), read_parameters(function)
    records = [name for name in parameters if _is_record(hints.get(name))]
    named = all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters.values())
    if len(records) != 1 or not named:
        return None
    record = hints[records[0]]
    fields = read_parameters(record)
    rest = {name: p for name, p in parameters.items() if name != records[0]}
    if not attention_names.takes_qkv(list(fields)) or not fields.keys().isdisjoint(rest):
        return None
    together = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in (*fields.values(), *rest.values())]
    signature = inspect.Signature(sorted(together, key=lambda p: p.default is not p.empty))

    @functools.wraps(function)
    def call_with_record(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        held = {name: value for name, value in given.items() if name in fields}
        others = {name: value for name, value in given.items() if name in rest}
        return function(**{records[0]: record(**held)}, **others)

    vars(call_with_record)["__signature__"] = signature
    call_with_record.__annotations__ = {**read_type_hints(record), **hints}
    return call_with_record


def _is_record(hint: Any) -> bool:
    return inspect.isclass(hint) and (dataclasses.is_dataclass(hint) or issubclass(hint, tuple))


def open_partial(target: Any, request: TargetRequest) -> tuple[Any, TargetRequest]:
    """The class in a ``functools.partial`` and the request with what that gives it; both as they are for all else."""
    if not (isinstance(target, functools.partial) and inspect.isclass(target.func)):
        return target, request
    owner: Any = target.func
    given = dict(zip(read_constructor_parameters(owner), target.args, strict=False)) | target.keywords
    kind = TargetKind.MODULE if issubclass(owner, nn.Module) else TargetKind.FUNCTION
    hints = {**request.hints, "kwargs": given | request.hints.get("kwargs", {})}
    return owner, replace(request, kind=str(kind), hints=hints)


def open_instance(target: Any, request: TargetRequest) -> tuple[Any, TargetRequest]:
    """A class that makes copies of a module, for the module, which is called with their width; else as they are."""
    if not isinstance(target, nn.Module) or isinstance(target, torch.jit.ScriptModule):
        return target, request
    owner: Any = type(target)

    def copy_module(made: Any) -> None:
        nn.Module.__init__(made)
        vars(made).update(vars(copy.deepcopy(target)))

    members = {"__init__": copy_module, "__module__": owner.__module__, COPIED_WIDTH: _read_width(target)}
    return type(owner.__name__, (owner,), members), replace(request, kind=str(TargetKind.MODULE))


def _read_width(module: nn.Module) -> int | None:
    """The width of what a module takes, as its first layer that has one says."""
    widths = (getattr(part, name, None) for part in module.modules() for name in _WIDTHS)
    return next((width for width in widths if type(width) is int), None)


def find_owner(target: Any) -> type | None:
    """The class of whose instances a function is a method; None for any other."""
    if not isinstance(target, FunctionType):
        return None
    owner: Any = sys.modules.get(target.__module__)
    for name in target.__qualname__.split(".")[:-1]:
        owner = getattr(owner, name, None)
    is_method = inspect.isclass(owner) and inspect.getattr_static(owner, target.__name__, None) is target
    return owner if is_method else None
