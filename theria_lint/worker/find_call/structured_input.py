"""Inputs that are objects with tensors in them: their fields, by annotation or by what a forward reads."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, get_args

import torch
from torch import nn

from theria_lint.worker.find_call.introspection import parse_source, read_type_hints

Parameters = Mapping[str, inspect.Parameter]


@dataclass(frozen=True)
class StructuredInput:
    """A parameter that is an object with fields, what these are as parameters, and what makes the object of them."""

    parameter: str
    fields: Parameters
    make: Callable[..., Any]

    def expand_parameters(self, forward: Parameters) -> dict[str, inspect.Parameter]:
        """The parameters of a forward with the fields in the record's place."""
        rest = {name: p for name, p in forward.items() if name != self.parameter}
        return {**self.fields, **rest}

    def pack_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the forward, the record made of those that are fields."""
        fields = {name: value for name, value in arguments.items() if name in self.fields}
        rest = {name: value for name, value in arguments.items() if name not in self.fields}
        return {**rest, self.parameter: self.make(**fields)}


def find_structured_input(cls: Any) -> StructuredInput | None:
    """The parameter of a module's forward that is a record: any by its annotation, the first by what the code reads."""
    parameters = dict(list(inspect.signature(cls.forward).parameters.items())[1:])
    needed = [n for n, p in parameters.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    hints = read_type_hints(cls.forward)
    for name in needed:
        found = _read_annotated_fields(hints.get(name), any_fields=name == needed[0])
        found = found or (_read_used_fields(name, parse_source(cls.forward)) if name == needed[0] else None)
        if found is not None and not found[0].keys() & (parameters.keys() - {name}):
            return StructuredInput(name, *found)
    return None


def _read_annotated_fields(hint: Any, *, any_fields: bool) -> tuple[Parameters, Callable[..., Any]] | None:
    """The fields of a class that only holds them, tensors among them unless ``any_fields``, and what makes one."""
    for owner in (hint, *get_args(hint)):
        if not inspect.isclass(owner) or issubclass(owner, nn.Module):
            continue
        if issubclass(owner, dict) and hasattr(owner, "__total__"):
            return _make_field_parameters(owner.__annotations__), dict
        if dataclasses.is_dataclass(owner) or (issubclass(owner, tuple) and hasattr(owner, "_fields")):
            fields = dict(inspect.signature(owner).parameters)
            if any_fields or any("Tensor" in str(field.annotation) for field in fields.values()):
                return fields, owner
    return None


def _read_used_fields(name: str, tree: ast.AST) -> tuple[Parameters, Callable[..., Any]] | None:
    """What the code reads of an argument by constant keys, or by attributes that no tensor has."""
    keys, attributes = list(_list_constant_keys(name, tree)), list(_list_read_attributes(name, tree))
    if keys:
        names = {key if key.isidentifier() else f"{name}_{re.sub(r'[^0-9a-zA-Z_]', '_', key)}": key for key in keys}
        return _make_field_parameters(names), lambda **values: {names[n]: value for n, value in values.items()}
    if attributes and not any(hasattr(torch.Tensor, attribute) for attribute in attributes):
        return _make_field_parameters(dict.fromkeys(attributes)), SimpleNamespace
    return None


def _list_constant_keys(name: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=found), slice=ast.Constant(value=str(key)), ctx=ast.Load()):
                if found == name:
                    yield key


def _list_read_attributes(name: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=found), attr=attribute, ctx=ast.Load()) if found == name:
                yield attribute


def _make_field_parameters(hints: Mapping[str, Any]) -> Parameters:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return {name: inspect.Parameter(name, kind) for name in hints}
