"""What a class's constructor takes, by name or by way of its ``**kwargs``: the source says what becomes of those."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import nn

from theria_lint.dynamic.worker.calling.signatures import POSITIONAL, parameters_of
from theria_lint.dynamic.worker.calling.sources import tree_of

Parameters = Mapping[str, inspect.Parameter]

_FURTHEST = 4
"""How many constructors keyword arguments are followed through."""


@lru_cache(maxsize=256)
def constructor(cls: Any) -> Parameters:
    """The parameters of a class's ``__init__`` without self.

    What it reads from its ``**kwargs``, and what the constructors and functions take that it hands them to, stand among
    the rest as keyword-only parameters.
    """
    return _constructor(cls, cls, _FURTHEST)


def is_open(parameters: Parameters) -> bool:
    """Whether any keyword argument is taken."""
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _constructor(cls: Any, start: Any, steps: int) -> Parameters:
    """What building a ``cls`` takes from the constructor of ``start`` on, a class in its resolution order."""
    owner = _owner(cls, start)
    if owner is None or owner is nn.Module:
        return {}
    named = dict(list(parameters_of(owner.__init__).items())[1:])
    open_ended = next((p.name for p in named.values() if p.kind is inspect.Parameter.VAR_KEYWORD), None)
    if open_ended is None or not steps:
        return named
    taken = _Body(cls, owner, open_ended, steps).taken()
    return {**named, **{name: parameter for name, parameter in taken.items() if name not in named}}


def _owner(cls: Any, start: Any) -> Any:
    """The class, ``start`` or after it in the order of resolution, that defines the constructor; None for object."""
    order = list(cls.__mro__)
    return next((c for c in order[order.index(start) :] if "__init__" in vars(c) and c is not object), None)


@dataclass(frozen=True)
class _Body:
    """The code of the constructor that ``owner`` defines, as it builds a ``cls``; ``name``: its ``**`` parameter."""

    cls: Any
    owner: Any
    name: str
    steps: int

    def taken(self) -> dict[str, inspect.Parameter]:
        """What stands behind the ``**`` parameter; less what the code refuses, or asks for in case it is there."""
        nodes = list(ast.walk(tree_of(self.owner.__init__)))
        found: dict[str, inspect.Parameter] = {}
        for node in nodes:
            if isinstance(node, ast.Call):
                found |= {name: p for name, p in self._handed_on(node).items() if name not in found}
        for node in nodes:
            found.update((p.name, p) for p in self._read(node))
        for node in nodes:
            if isinstance(node, ast.Compare) and any(self._is_kwargs(c) for c in node.comparators):
                found.pop(getattr(node.left, "value", ""), None)
        return found

    def _is_kwargs(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == self.name

    def _read(self, node: ast.AST) -> Iterator[inspect.Parameter]:
        """``kwargs["x"]``, ``kwargs.pop("x")``, ``kwargs.get("x", default)``; not where the default is computed."""
        match node:
            case ast.Subscript(value=value, slice=ast.Constant(value=str(key))) if self._is_kwargs(value):
                yield _keyword(key)
            case ast.Call(
                func=ast.Attribute(value=value, attr="pop" | "get" | "setdefault" as how),
                args=[ast.Constant(value=str(key)), *rest],
            ) if self._is_kwargs(value):
                if not rest:
                    yield _keyword(key, *([None] if how == "get" else []))
                elif isinstance(rest[0], ast.Constant):
                    yield _keyword(key, rest[0].value)

    def _handed_on(self, call: ast.Call) -> dict[str, inspect.Parameter]:
        """What the object that is called with ``**kwargs`` takes beside what the call gives it itself."""
        if not any(keyword.arg is None and self._is_kwargs(keyword.value) for keyword in call.keywords):
            return {}
        parameters = dict(self._parameters_of(call.func))
        named = {keyword.arg for keyword in call.keywords}
        plain = next((i for i, a in enumerate(call.args) if isinstance(a, ast.Starred)), len(call.args))
        placed = [name for name, p in parameters.items() if p.kind in POSITIONAL][:plain]
        return {
            name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in parameters.items()
            if name not in named
            and name not in placed
            and parameter.kind in (*POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
        }

    def _parameters_of(self, function: ast.expr) -> Parameters:
        match function:
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"):
                order = list(self.cls.__mro__)
                return _constructor(self.cls, order[order.index(self.owner) + 1], self.steps - 1)
            case ast.Attribute(value=parent, attr="__init__") if inspect.isclass(found := self._named(parent)):
                return {
                    "self": _keyword("self").replace(kind=POSITIONAL[1]),
                    **_constructor(found, found, self.steps - 1),
                }
        found = self._named(function)
        if inspect.isclass(found):
            return _constructor(found, found, self.steps - 1)
        return parameters_of(found) if inspect.isfunction(found) else {}

    def _named(self, node: ast.expr) -> Any:
        """The object that a dotted name stands for in the constructor's module, None where it is no such name."""
        if isinstance(node, ast.Name):
            return getattr(inspect.unwrap(self.owner.__init__), "__globals__", {}).get(node.id)
        return getattr(self._named(node.value), node.attr, None) if isinstance(node, ast.Attribute) else None


def _keyword(name: str, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
