"""Read functions without calling them: their parameters, annotations and source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class NoSuchChoiceError(LookupError):
    """A parameter has fewer candidates than the choice asks for: nothing new to try."""


def read_parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters by name; those of scripted code stand in its schema."""
    schema = getattr(function, "schema", None)
    if schema is None or inspect.isfunction(function):
        return dict(inspect.signature(function).parameters)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return {
        a.name: inspect.Parameter(
            a.name, kind, default=a.default_value if a.has_default_value() else inspect.Parameter.empty
        )
        for a in schema.arguments
    }


def read_call_parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters by name, with what the code reads of its ``**kwargs`` among them."""
    parameters = read_parameters(function)
    open_ended = next((p.name for p in parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD), None)
    if open_ended is not None:
        for node in ast.walk(parse_source(function)):
            for found in list_keyword_uses(node, open_ended):
                parameters.setdefault(found.name, found)
    return parameters


def list_keyword_uses(node: ast.AST, kwargs: str) -> Iterator[inspect.Parameter]:
    """``kwargs["x"]``, ``kwargs.pop("x")``, ``kwargs.get("x", default)``; not where the default is computed."""

    def is_kwargs(value: ast.expr) -> bool:
        return isinstance(value, ast.Name) and value.id == kwargs

    match node:
        case ast.Subscript(value=value, slice=ast.Constant(value=str(key))) if is_kwargs(value):
            yield make_keyword_parameter(key)
        case ast.Call(
            func=ast.Attribute(value=value, attr="pop" | "get" | "setdefault" as how),
            args=[ast.Constant(value=str(key)), *rest],
        ) if is_kwargs(value):
            if not rest:
                yield make_keyword_parameter(key, *([None] if how == "get" else []))
            elif isinstance(rest[0], ast.Constant):
                yield make_keyword_parameter(key, rest[0].value)


def make_keyword_parameter(name: str, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """A parameter that is given by name."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)


def takes_by_position(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether a parameter can be given by position alone."""
    return any(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in parameters.values())


def order_by_position(parameters: Mapping[str, inspect.Parameter], by_name: Mapping[str, Any]) -> list[Any]:
    """Arguments by position, up to the last one that is given; defaults fill the gaps."""
    names = [n for n, p in parameters.items() if p.kind in POSITIONAL]
    last = max((i for i, name in enumerate(names) if name in by_name), default=-1)
    return [by_name.get(name, parameters[name].default) for name in names[: last + 1]]


def as_a_caller(
    parameters: Mapping[str, inspect.Parameter], by_name: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as people write them: by position what has no default, up to the first that has one, the rest by name.

    Hooks of modules see positional arguments alone, and a wrapper that takes ``*args`` knows no names.
    """
    named, positional = dict(by_name), list[Any]()
    for name, parameter in parameters.items():
        if parameter.kind not in POSITIONAL or parameter.default is not inspect.Parameter.empty or name not in named:
            break
        positional.append(named.pop(name))
    return positional, named


def parse_source(code: Any) -> ast.AST:
    """The syntax tree of a function or a class."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(code))))
    except (OSError, TypeError, SyntaxError, ValueError):
        return ast.Module([], [])


def read_type_hints(function: Any) -> Mapping[str, Any]:
    """What the parameters of a function are annotated with."""
    try:
        return get_type_hints(function)
    except Exception:  # names that are not defined, and worse
        return {}
