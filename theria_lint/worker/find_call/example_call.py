"""Run code that calls a target, as its docs and tests have it, up to that call: what it is given is kept."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from theria_lint.calls.constructions import watch_modules
from theria_lint.calls.recorder import CallRecorder
from theria_lint.model import TargetKind
from theria_lint.time_limit import OutOfTimeError, limit_processor_time

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

    def _write_loss(self, path: str, symbol: str, why: str) -> None:
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
