"""Record, in the process of the user's own command, how the targets of the linted files are called.

Sources of linted files get a decorator on each target as they are imported; nothing else of the program changes. What
comes is written at once, a file a call, so that worker processes and crashes lose nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable
from types import BuiltinFunctionType, FrameType, FunctionType
from typing import Any

from theria_lint.calls.constructions import Built, find_constructor, keep_constructor, watch_modules
from theria_lint.calls.marked_sources import FACTORY, watch_sources
from theria_lint.reasons import Ground, Reason, ReasonCode

_MOST_CALLS = 4
"""So many ways to call a target are kept for each way to build it."""

_MOST_BUILDS = 4

_LOOKED_AT = 64
"""So many calls of a target are looked at, then the first of each object, and those whose number is a power of two."""

Wrap = Callable[[Any], Any]


class CallRecorder:
    """What is wanted of the files, by their real paths, and where it goes."""

    def __init__(self, plan: dict[str, Any]) -> None:
        """``plan`` has ``targets`` (by real path, the kinds by symbol), ``names`` (the paths to report), ``spool``."""
        self.targets: dict[str, dict[str, str]] = plan["targets"]
        self._names: dict[str, str] = plan["names"]
        self._spool: str = plan["spool"]
        self._seen: dict[tuple[str, str], dict[str, set[str]]] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._instances: set[int] = set()
        self._busy = threading.local()

    def install(self) -> None:
        """Watch the imports of this process from now on, and its script."""
        watch_sources(self.targets, self.make_decorator)

    def make_decorator(self, path: str, symbol: str, kind: str) -> Wrap:
        """What a target is decorated with, or what makes targets."""
        watch_modules()

        def decorate(held: Any) -> Any:
            if kind == FACTORY:
                return self._watch_factory(held, path, symbol)
            if isinstance(held, type):
                return self._watch_class(held, path, symbol, kind)
            return self._watch_callable(held, path, symbol, kind) if callable(held) else held

        return decorate

    def _watch_factory(self, factory: Any, path: str, symbol: str) -> Any:
        """What records the calls of the functions that a function returns, with its own arguments."""

        def watch(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            name = f"{symbol}.{getattr(made, '__name__', '')}"
            kind = self.targets[path].get(name)
            if kind is None or not isinstance(made, FunctionType):
                return made
            return self._watch_callable(made, path, name, kind, Built(args, dict(kwargs), symbol))

        def recorded(*args: Any, **kwargs: Any) -> Any:
            return watch(factory(*args, **kwargs), args, kwargs)

        return _wrap(recorded, factory)

    def _watch_callable(self, held: Any, path: str, symbol: str, kind: str, factory: Built | None = None) -> Any:
        """A callable that notes its calls, of the type that it has."""
        if type(held).__module__.startswith(("triton", "torch.jit")):
            return held
        if isinstance(held, FunctionType | BuiltinFunctionType):
            note, compiles = self.note, _is_compiling

            def recorded(*args: Any, **kwargs: Any) -> Any:
                if not compiles():
                    note(path, symbol, kind, args, kwargs, factory=factory)
                return held(*args, **kwargs)

            return _wrap(recorded, held)
        if hasattr(held, "register_forward_pre_hook"):
            held.register_forward_pre_hook(
                lambda module, args, kwargs: self.note(path, symbol, kind, args, kwargs), with_kwargs=True
            )
            return held
        return self._watch_object(held, path, symbol, kind)

    def _watch_object(self, held: Any, path: str, symbol: str, kind: str) -> Any:
        """The object with a call that notes: of a class of its own, which is looked up where an object is called."""
        cls: Any = type(held)

        def recorded(instance: Any, *args: Any, **kwargs: Any) -> Any:
            if not _is_compiling():
                self.note(path, symbol, kind, args, kwargs)
            return cls.__call__(instance, *args, **kwargs)

        watched: Any = type(cls.__name__, (cls,), {"__call__": recorded, "__module__": cls.__module__})
        if isinstance(held, functools.partial):
            return watched(held.func, *held.args, **held.keywords)
        try:
            held.__class__ = watched
        except TypeError:  # its class has slots, or none of Python's
            self._write_loss(path, symbol, Reason(ReasonCode.CALLS_UNSEEN, {"kind": cls.__name__}))
        return held

    def _watch_class(self, cls: type, path: str, symbol: str, kind: str) -> type:
        if hasattr(cls, "apply") and hasattr(cls, "backward"):
            apply = cls.apply

            def recorded_apply(*args: Any, **kwargs: Any) -> Any:
                if not _is_compiling():
                    self.note(path, symbol, kind, args, kwargs)
                return apply(*args, **kwargs)

            cls.apply = staticmethod(recorded_apply)
            return cls
        init: Any = vars(cls).get("__init__") or getattr(cls, "__init__")  # noqa: B009
        entry = "forward" if hasattr(cls, "forward") else "__call__"
        forward = getattr(cls, entry, None)

        keep, note, compiles = keep_constructor, self.note, _is_compiling

        def recorded_init(instance: Any, *args: Any, **kwargs: Any) -> None:
            if type(instance) is cls:
                keep(instance, args, kwargs)
            init(instance, *args, **kwargs)

        setattr(cls, "__init__", _wrap(recorded_init, init))  # noqa: B010
        if forward is not None:

            def recorded_forward(instance: Any, *args: Any, **kwargs: Any) -> Any:
                if type(instance) is cls and not compiles():
                    note(path, symbol, kind, args, kwargs, instance)
                return forward(instance, *args, **kwargs)

            setattr(cls, entry, _wrap(recorded_forward, forward))
        return cls

    def note(
        self,
        path: str,
        symbol: str,
        kind: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        instance: Any = None,
        factory: Built | None = None,
    ) -> None:
        """Keep a call if it differs from those that are kept; whatever goes wrong, the program goes on."""
        if not self._is_looked_at((path, symbol), instance) or getattr(self._busy, "on", False):
            return
        torch = sys.modules.get("torch")
        if torch is None or torch.jit.is_tracing():
            return
        self._busy.on = True
        try:
            built = find_constructor(instance) if instance is not None else factory
            build = _summarise(built)
            builds = self._seen.setdefault((path, symbol), {})
            if build not in builds and len(builds) == _MOST_BUILDS:
                return
            seen = builds.setdefault(build, set())
            key = _summarise((args, kwargs, build, getattr(instance, "training", None)))
            if key not in seen and len(seen) < _MOST_CALLS:
                seen.add(key)
                document, tensors, lost = self._make_document(path, symbol, kind, args, kwargs, instance, built)
                if lost:
                    self._write_loss(path, symbol, lost)
                else:
                    self.keep(f"{_digest(f'{path}:{symbol}')}-{_digest(build)}-{_digest(key)}", document, tensors)
        except Exception as error:
            self._write_loss(path, symbol, Reason(Ground.RAISED, {"kind": type(error).__name__, "message": str(error)}))
        finally:
            self._busy.on = False

    def _is_looked_at(self, target: tuple[str, str], instance: Any) -> bool:
        """Whether a call is looked at, which costs: there may be millions of them."""
        count = self._counts[target] = self._counts.get(target, 0) + 1
        known = instance is None or id(instance) in self._instances
        if not known:
            self._instances.add(id(instance))
        return count <= _LOOKED_AT or count & (count - 1) == 0 or not known

    def _make_document(
        self,
        path: str,
        symbol: str,
        kind: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        instance: Any,
        built: Built | None,
    ) -> tuple[dict[str, Any], dict[str, Any], Reason | None]:
        """What is to be kept of a call, the tensors that are kept whole, and why it cannot be, if it cannot."""
        from theria_lint.calls.call_tree import TreeWriter

        writer = TreeWriter(find_constructor, path)
        document: dict[str, Any] = {
            "format": 1,
            "path": self._names[path],
            "symbol": symbol,
            "kind": kind,
            "caller": _describe_caller(path),
            "constructor": None,
            **writer.write_arguments(args, kwargs),
        }
        if instance is not None and built is None:
            return document, {}, Reason(ReasonCode.BUILT_UNSEEN, {"kind": type(instance).__name__})
        if built is not None:
            given = writer.write_arguments(built.args, built.kwargs)
            if built.factory:
                document["factory"] = {"symbol": built.factory, **given}
            else:
                document["constructor"] = given
                document["training"] = bool(getattr(instance, "training", True))
        return document, writer.tensors, writer.lost[0] if writer.lost else None

    def keep(self, name: str, document: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Write a call into the spool."""
        stem = os.path.join(self._spool, name)
        if tensors:
            from safetensors.torch import save_file

            save_file(tensors, stem + ".safetensors")
        _write_whole(stem + ".json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    def _write_loss(self, path: str, symbol: str, why: Reason) -> None:
        told = {"path": self._names[path], "symbol": symbol, "lost": why.to_json()}
        stem = os.path.join(self._spool, f"{_digest(f'{path}:{symbol}')}-{_digest(json.dumps(told))}")
        _write_whole(stem + ".lost", json.dumps(told))


def _wrap(recorded: Any, held: Any) -> Any:
    """What records in the place of a function, with its name, its signature and the names that it sees.

    Whoever reads its annotations looks those up among the globals; so it needs none of its own.
    """
    around = getattr(held, "__globals__", recorded.__globals__)
    made = FunctionType(recorded.__code__, around, recorded.__name__, recorded.__defaults__, recorded.__closure__)
    return functools.update_wrapper(made, held)


def _is_compiling() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _write_whole(path: str, text: str) -> None:
    """Write a file of the spool; one that another process has written already stays."""
    if os.path.exists(path):
        return
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def _summarise(value: Any, depth: int = 0) -> str:
    """What makes a call another one: structure, dtypes, numbers of axes and switches; no sizes and no numbers."""
    if depth > 6:
        return "…"
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "requires_grad"):
        return f"{value.dtype}/{len(shape)}/{value.requires_grad}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_summarise(part, depth + 1)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "(" + ",".join(_summarise(part, depth + 1) for part in value) + ")"
    if value is None or isinstance(value, bool | str):
        return repr(value)
    if isinstance(value, int | float):
        return f"{type(value).__name__}{'0' if value == 0 else ''}"
    # A configuration says in a word or a switch which code runs.
    switches = {name: part for name, part in getattr(value, "__dict__", {}).items() if isinstance(part, bool | str)}
    return f"{type(value).__qualname__}{_summarise(switches, depth + 1) if switches else ''}"


def _describe_caller(path: str) -> str:
    """The test that runs, or the nearest line outside the libraries and, if there is one, outside the target's file."""
    test = os.environ.get("PYTEST_CURRENT_TEST")
    if test:
        return test.rpartition(" (")[0] or test
    frame: FrameType | None = sys._getframe(2)
    within = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if os.path.isabs(file) and not _is_library(file):
            line = f"{os.path.relpath(file)}:{frame.f_lineno}"
            if os.path.realpath(file) != path:
                return line
            within = within or line
        frame = frame.f_back
    return within or "the command"


def _is_library(file: str) -> bool:
    return "site-packages" in file or file.startswith((os.path.dirname(os.__file__), os.path.dirname(__file__)))
