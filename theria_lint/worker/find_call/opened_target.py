"""Open what stands for a class: a partial of it that a module has a name for, or a method of its instances."""

from __future__ import annotations

import functools
import inspect
import sys
from dataclasses import replace
from types import FunctionType
from typing import Any

from torch import nn

from theria_lint.confirm.protocol import TargetRequest
from theria_lint.model import TargetKind
from theria_lint.worker.find_call.signatures import read_constructor_parameters


def open_partial(target: Any, request: TargetRequest) -> tuple[Any, TargetRequest]:
    """The class in a ``functools.partial`` and the request with what that gives it; both as they are for all else."""
    if not (isinstance(target, functools.partial) and inspect.isclass(target.func)):
        return target, request
    owner: Any = target.func
    given = dict(zip(read_constructor_parameters(owner), target.args, strict=False)) | target.keywords
    kind = TargetKind.MODULE if issubclass(owner, nn.Module) else TargetKind.FUNCTION
    hints = {**request.hints, "kwargs": given | request.hints.get("kwargs", {})}
    return owner, replace(request, kind=str(kind), hints=hints)


def find_owner(target: Any) -> type | None:
    """The class of whose instances a function is a method; None for any other."""
    if not isinstance(target, FunctionType):
        return None
    owner: Any = sys.modules.get(target.__module__)
    for name in target.__qualname__.split(".")[:-1]:
        owner = getattr(owner, name, None)
    is_method = inspect.isclass(owner) and inspect.getattr_static(owner, target.__name__, None) is target
    return owner if is_method else None
