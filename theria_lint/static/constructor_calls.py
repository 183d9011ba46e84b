"""What a module's calls hand to the constructors of its classes: layers that an instance keeps, and calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from theria_lint.static.class_lineage import find_methods_of, get_lineage
from theria_lint.static.dataflow import collect_assigned_attributes, get_values, list_values_behind
from theria_lint.static.scopes import (
    ModuleIndex,
    Scope,
    find_instance,
    get_dotted_name,
    is_super,
)

INIT = "__init__"
# So many local names are followed to what is handed over.
_MOST_NAMES = 50


class Handed(NamedTuple):
    """Something that a name or an attribute stands for in the scope that hands it over."""

    scope: Scope
    node: ast.Name | ast.Attribute


class ConstructorCalls:
    """The calls of the classes of one module."""

    def __init__(self, index: ModuleIndex) -> None:
        self._index = index

    def find_handed(self, init: Scope, parameter: str) -> Sequence[Handed]:
        """What the module hands to a parameter of a constructor, by the names that the argument is made of."""
        return self._handed.get(init, {}).get(parameter, ())

    @cached_property
    def _handed(self) -> dict[Scope, dict[str, list[Handed]]]:
        table: dict[Scope, dict[str, list[Handed]]] = {}
        for scope in self._index.scopes:
            for call in scope.select_nodes(ast.Call):
                assert isinstance(call, ast.Call)
                for init in self._find_constructors(scope, call):
                    for name, value in _iter_bound_arguments(init, call):
                        table.setdefault(init, {}).setdefault(name, []).extend(_iter_named(scope, value))
        return table

    def _find_constructors(self, scope: Scope, call: ast.Call) -> Iterator[Scope]:
        """The constructors that a call runs: of the class that it names, or of what its own class inherits from."""
        if isinstance(call.func, ast.Attribute) and call.func.attr == INIT and is_super(call.func.value):
            found = find_instance(scope)
            line = get_lineage(self._index, found[1])[1:2] if found is not None else []
        else:
            name = (get_dotted_name(call.func) or "").rpartition(".")[2]
            line = [found for found in self._index.by_name.get(name, ()) if found.kind == "class"]
        for owner in line:
            yield from find_methods_of(self._index, owner, INIT)


def list_kept_parameters(init: Scope) -> list[tuple[str, str]]:
    """The attributes into which a constructor puts something that is made of a parameter, each with the parameter."""
    return [
        (member, node.id)
        for member, values in collect_assigned_attributes(init).items()
        for value in list_values_behind(init, values, {})
        for node in ast.walk(value)
        if isinstance(node, ast.Name) and node.id in init.parameters[1:]
    ]


def _iter_named(scope: Scope, value: ast.expr) -> Iterator[Handed]:
    """The names in an expression, and in what the scope's own code puts into those that are local."""
    found, seen = [value], set[str]()
    for expression in found:  # which grows
        for node in ast.walk(expression):
            if isinstance(node, ast.Name | ast.Attribute):
                yield Handed(scope, node)
            if isinstance(node, ast.Name) and node.id not in seen and len(seen) < _MOST_NAMES:
                seen.add(node.id)
                found += get_values(scope, node.id)


def _iter_bound_arguments(init: Scope, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """What a call gives, each with the parameter of a constructor that it is for; nothing behind a ``*``."""
    arguments = init.function.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)][1:]
    for name, value in zip(positional, call.args, strict=False):
        if isinstance(value, ast.Starred):
            break
        yield name, value
    yield from ((keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg is not None)
