"""Record, in the process of the user's own command, how the targets of the linted files are called.

Sources of linted files get a decorator on each target as they are imported; nothing else of the program changes. What
comes is written at once, a file a call, so that worker processes and crashes lose nothing.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.machinery
import json
import os
import sys
import threading
import weakref
from collections.abc import Callable
from types import CodeType
from typing import Any

_MOST_CALLS = 4
_NOTED = "_theria_lint_recorded"
"""The name under which sources find the decorator."""

Wrap = Callable[[Any], Any]


class CallRecorder:
    """What is wanted of the files, by their real paths, and where it goes."""

    def __init__(self, plan: dict[str, Any]) -> None:
        """``plan`` has ``targets`` (by real path, the kinds by symbol), ``names`` (the paths to report), ``spool``."""
        self.targets: dict[str, dict[str, str]] = plan["targets"]
        self._names: dict[str, str] = plan["names"]
        self._spool: str = plan["spool"]
        self._seen: dict[tuple[str, str], set[str]] = {}
        self._busy = threading.local()

    def install(self) -> None:
        """Watch the imports of this process from now on."""
        compile_source = importlib.machinery.SourceFileLoader.source_to_code
        get_code = importlib.machinery.SourceFileLoader.get_code
        recorder = self

        def source_to_code(loader: Any, data: Any, path: Any, *options: Any, **more: Any) -> CodeType:
            wanted = recorder.targets.get(os.path.realpath(path)) if isinstance(path, str) else None
            if wanted:
                data = recorder.mark_targets(data, os.path.realpath(path))
            return compile_source(loader, data, path, *options, **more)

        def get_code_afresh(loader: Any, name: str) -> Any:
            path = loader.get_filename(name)
            if os.path.realpath(path) not in recorder.targets:
                return get_code(loader, name)
            return loader.source_to_code(loader.get_data(path), path)  # not from bytecode, and none is left behind

        importlib.machinery.SourceFileLoader.source_to_code = source_to_code  # type: ignore[method-assign, assignment]
        importlib.machinery.SourceFileLoader.get_code = get_code_afresh  # type: ignore[method-assign, assignment]
        import builtins

        setattr(builtins, _NOTED, self.make_decorator)

    def mark_targets(self, data: Any, path: str) -> Any:
        """The tree of a source, with a decorator on each target."""
        try:
            tree = ast.parse(data, path)
        except (SyntaxError, ValueError, RecursionError):
            return data
        _TargetMarker(path, self.targets[path]).mark(tree)
        return ast.fix_missing_locations(tree)

    def make_decorator(self, path: str, symbol: str, kind: str) -> Wrap:
        """What a target is decorated with."""

        def decorate(held: Any) -> Any:
            if isinstance(held, type):
                return self._watch_class(held, path, symbol, kind)
            return self._watch_function(held, path, symbol, kind) if callable(held) else held

        return decorate

    def _watch_function(self, function: Any, path: str, symbol: str, kind: str) -> Any:
        if not hasattr(function, "__code__") and type(function).__module__.startswith(("triton", "torch.jit")):
            return function

        @functools.wraps(function, updated=())
        def recorded(*args: Any, **kwargs: Any) -> Any:
            self.note(path, symbol, kind, args, kwargs)
            return function(*args, **kwargs)

        recorded.__dict__.update(getattr(function, "__dict__", {}))
        recorded.__wrapped__ = function
        return recorded

    def _watch_class(self, cls: type, path: str, symbol: str, kind: str) -> type:
        if hasattr(cls, "apply") and hasattr(cls, "backward"):
            apply = cls.apply

            def recorded_apply(*args: Any, **kwargs: Any) -> Any:
                self.note(path, symbol, kind, args, kwargs)
                return apply(*args, **kwargs)

            cls.apply = staticmethod(recorded_apply)
            return cls
        init: Any = vars(cls).get("__init__") or getattr(cls, "__init__")  # noqa: B009
        entry = "forward" if hasattr(cls, "forward") else "__call__"
        forward = getattr(cls, entry, None)

        @functools.wraps(init)
        def recorded_init(instance: Any, *args: Any, **kwargs: Any) -> None:
            if type(instance) is cls:
                self._keep_constructor(instance, args, kwargs)
            init(instance, *args, **kwargs)

        setattr(cls, "__init__", recorded_init)  # noqa: B010
        if forward is not None:

            @functools.wraps(forward)
            def recorded_forward(instance: Any, *args: Any, **kwargs: Any) -> Any:
                if type(instance) is cls:
                    self.note(path, symbol, kind, args, kwargs, instance)
                return forward(instance, *args, **kwargs)

            setattr(cls, entry, recorded_forward)
        return cls

    def _keep_constructor(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            _CONSTRUCTORS[id(instance)] = (args, dict(kwargs))
            weakref.finalize(instance, _CONSTRUCTORS.pop, id(instance), None)
        except TypeError:  # it cannot be referred to weakly
            _CONSTRUCTORS.pop(id(instance), None)

    def note(
        self, path: str, symbol: str, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any], instance: Any = None
    ) -> None:
        """Keep a call if it differs from those that are kept; whatever goes wrong, the program goes on."""
        seen = self._seen.setdefault((path, symbol), set())
        if len(seen) >= _MOST_CALLS or getattr(self._busy, "on", False):
            return
        torch = sys.modules.get("torch")
        if torch is None or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        self._busy.on = True
        try:
            given = _CONSTRUCTORS.get(id(instance)) if instance is not None else None
            key = _summarise((args, kwargs, given, getattr(instance, "training", None)))
            if key not in seen:
                seen.add(key)
                self._write(path, symbol, kind, args, kwargs, instance, given, key)
        except Exception as error:
            self._write_loss(path, symbol, f"{type(error).__name__}: {error}")
        finally:
            self._busy.on = False

    def _write(
        self,
        path: str,
        symbol: str,
        kind: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        instance: Any,
        given: tuple[tuple[Any, ...], dict[str, Any]] | None,
        key: str,
    ) -> None:
        from theria_lint.calls.call_tree import TreeWriter

        writer = TreeWriter(lambda module: _CONSTRUCTORS.get(id(module)))
        document: dict[str, Any] = {
            "format": 1,
            "path": self._names[path],
            "symbol": symbol,
            "kind": kind,
            "caller": _describe_caller(path),
            "constructor": None,
            **writer.write_arguments(args, kwargs),
        }
        if instance is not None:
            if given is None:
                self._write_loss(path, symbol, "nobody saw how it was built")
                return
            document["constructor"] = writer.write_arguments(*given)
            document["training"] = bool(getattr(instance, "training", True))
        if writer.lost:
            self._write_loss(path, symbol, writer.lost[0])
            return
        stem = os.path.join(self._spool, f"{_digest(f'{path}:{symbol}')}-{_digest(key)}")
        if writer.tensors:
            from safetensors.torch import save_file

            save_file(writer.tensors, stem + ".safetensors")
        _write_whole(stem + ".json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    def _write_loss(self, path: str, symbol: str, why: str) -> None:
        told = {"path": self._names[path], "symbol": symbol, "lost": why}
        stem = os.path.join(self._spool, f"{_digest(f'{path}:{symbol}')}-{_digest(why)}")
        _write_whole(stem + ".lost", json.dumps(told))


_CONSTRUCTORS: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
"""What living objects of watched classes were built with, by identity."""


class _TargetMarker:
    """Puts the decorator on the definitions and the assignments that targets are."""

    def __init__(self, path: str, targets: dict[str, str]) -> None:
        self._path, self._targets = path, targets

    def mark(self, tree: ast.Module) -> None:
        """Change the tree in place."""
        self._mark_body(tree, "")
        for node in list(tree.body):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if name in self._targets:
                    node.value = ast.copy_location(ast.Call(self._make_decorator(name, node), [node.value], []), node)

    def _mark_body(self, node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self._mark_body(child, prefix)
                continue
            symbol = prefix + child.name
            if symbol in self._targets:
                child.decorator_list.insert(0, self._make_decorator(symbol, child))
            inner = "." if isinstance(child, ast.ClassDef) else ".<locals>."
            self._mark_body(child, symbol + inner)

    def _make_decorator(self, symbol: str, node: Any) -> ast.expr:
        arguments: list[ast.expr] = [ast.Constant(text) for text in (self._path, symbol, self._targets[symbol])]
        return ast.copy_location(ast.Call(ast.Name(_NOTED, ast.Load()), arguments, []), node)


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
    return type(value).__qualname__


def _describe_caller(path: str) -> str:
    """The test that runs, or the nearest line of code outside the target's file and the libraries."""
    test = os.environ.get("PYTEST_CURRENT_TEST")
    if test:
        return test.rpartition(" (")[0] or test
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if os.path.isabs(file) and os.path.realpath(file) != path and not _is_library(file):
            return f"{os.path.relpath(file)}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "the command"


def _is_library(file: str) -> bool:
    return "site-packages" in file or file.startswith((os.path.dirname(os.__file__), os.path.dirname(__file__)))
