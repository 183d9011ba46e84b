"""Find what a package hands to the constructors of its modules: the layers that its own code puts into them."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from torch import nn

from theria_lint.static import attention_names
from theria_lint.worker.find_call.signatures import parse_source, read_constructor_parameters, read_identifier

MOST_LAYERS = 4
"""So many are offered for one parameter: each is built whenever its owner is."""

# So many names are followed to what is handed over.
_MOST_NAMES = 20


class HandedLayer(NamedTuple):
    """A class of modules, or a function, that is handed over: an instance of it where ``is_made``, else itself."""

    thing: Any
    is_made: bool


@lru_cache(maxsize=256)
def find_handed_layers(cls: Any, parameter: str) -> Sequence[HandedLayer]:
    """What the imported code of a class's package hands to a parameter of its constructor; what attends comes first."""
    found = dict.fromkeys(
        layer
        for module, names in _list_users(cls)
        for value in _iter_arguments(cls, parameter, module, names)
        for layer in _iter_layers(module, value)
        if layer.thing is not cls
    )
    return sorted(found, key=lambda layer: not attention_names.names_attention(layer.thing.__name__))[:MOST_LAYERS]


def _list_users(cls: Any) -> list[tuple[ModuleType, frozenset[str]]]:
    """The imported modules of a class's package that have a name for it, each with these names."""
    package = cls.__module__.partition(".")[0]
    modules = [found for name, found in list(sys.modules.items()) if name.partition(".")[0] == package]
    users = [
        (module, frozenset(name for name, value in list(vars(module).items()) if value is cls))
        for module in modules
        if isinstance(module, ModuleType)
    ]
    return [(module, names) for module, names in users if names]


def _iter_arguments(cls: Any, parameter: str, module: ModuleType, names: frozenset[str]) -> Iterator[ast.expr]:
    """What the calls in a module that go by some names give for a parameter."""
    positions = list(read_constructor_parameters(cls))
    place = positions.index(parameter)
    for call in _list_calls(module):
        if read_identifier(call.func) in names:
            yield from (keyword.value for keyword in call.keywords if keyword.arg == parameter)
            if len(call.args) > place and not any(isinstance(value, ast.Starred) for value in call.args):
                yield call.args[place]


@lru_cache(maxsize=64)
def _list_calls(module: ModuleType) -> list[ast.Call]:
    return [node for node in ast.walk(parse_source(module)) if isinstance(node, ast.Call)]


def _iter_layers(module: ModuleType, value: ast.expr) -> Iterator[HandedLayer]:
    """The modules and functions that an expression makes or names, through variables and attributes of the module."""
    values: list[ast.expr] = [value]
    seen: set[str] = set()
    for expression in values:  # which grows
        made = {call.func for call in ast.walk(expression) if isinstance(call, ast.Call)}
        for node in ast.walk(expression):
            if isinstance(node, ast.Name | ast.Attribute):
                thing = _find_thing(module, node)
                if inspect.isclass(thing) and issubclass(thing, nn.Module) and _is_near(module, thing):
                    yield HandedLayer(thing, node in made)
                elif isinstance(thing, FunctionType) and node not in made and _is_near(module, thing):
                    yield HandedLayer(thing, is_made=False)
                elif (name := read_identifier(node) or "") not in seen and len(seen) < _MOST_NAMES:
                    seen.add(name)
                    values += _collect_assigned(module).get(name, ())


@lru_cache(maxsize=64)
def _collect_assigned(module: ModuleType) -> dict[str, list[ast.expr]]:
    """What a module's code assigns to each variable, or attribute of an instance, by its name."""
    table: dict[str, list[ast.expr]] = {}
    for node in (found for found in ast.walk(parse_source(module)) if isinstance(found, ast.Assign)):
        for target in node.targets:
            if isinstance(target, ast.Name | ast.Attribute):
                table.setdefault(read_identifier(target) or "", []).append(node.value)
    return table


def _find_thing(module: ModuleType, node: ast.expr) -> Any:
    """What a dotted name stands for in a module; None for what it does not know."""
    if isinstance(node, ast.Name):
        return vars(module).get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = _find_thing(module, node.value)
    return vars(owner).get(node.attr) if isinstance(owner, ModuleType) else None


def _is_near(module: ModuleType, thing: Any) -> bool:
    """Whether something is of the package of a module."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0] == module.__name__.partition(".")[0]
