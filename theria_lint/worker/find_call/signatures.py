"""Read a target's signature: which parameters are q, k, v, and what the others are given."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from theria_lint.static import attention_names
from theria_lint.worker.find_call.argument_values import (
    CALL_VALUES,
    CHUNK_NAMES,
    CONSTRUCTOR_VALUES,
    ValueMaker,
    find_values_by_name,
    list_candidates,
    may_be_differentiated,
)
from theria_lint.worker.find_call.introspection import POSITIONAL, NoSuchChoiceError
from theria_lint.worker.find_call.trial_spec import TrialSpec

QKV = ("q", "k", "v")

LARGE_DEFAULT = 16
"""A default size above this is not needed to see what a module's derivatives are worth."""


SHORT_CHUNK = 4
"""A length of chunks that lets a short sequence have several."""


def list_free_parameters(parameters: Mapping[str, inspect.Parameter], fixed: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that need a value and are not q, k or v."""
    return tuple(
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        and name not in fixed
        and attention_names.get_role(name) is None
    )


def list_optional_parameters(parameters: Mapping[str, inspect.Parameter], fixed: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that have a default."""
    return tuple(
        name
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
        and name not in fixed
        and attention_names.get_role(name) is None
    )


def looks_like_tensor(parameter: inspect.Parameter) -> bool:
    """Whether an optional parameter may be a tensor that is learned or computed: by its annotation, or its name."""
    if parameter.default is not None or not may_be_differentiated(parameter.name):
        return False
    annotation = str(parameter.annotation).lower()
    return "tensor" in annotation if parameter.annotation is not inspect.Parameter.empty else True


def is_long_chunk(parameter: inspect.Parameter) -> bool:
    """Whether a parameter is a length of chunks or blocks whose default makes one chunk of a short sequence."""
    return (
        re.search(CHUNK_NAMES, parameter.name) is not None
        and type(parameter.default) is int
        and parameter.default > SHORT_CHUNK
    )


def read_enums(values: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Values by name, with members in the place of their names where a parameter's default is one of an ``Enum``."""
    found = dict(values)
    for name, value in values.items():
        default = parameters[name].default if name in parameters else None
        if isinstance(default, Enum) and isinstance(value, str):
            found[name] = type(default)[value]
    return found


def choose_arguments(
    parameters: Mapping[str, inspect.Parameter],
    spec: TrialSpec,
    table: tuple[tuple[str, ValueMaker], ...],
    choice: Mapping[str, int],
    fixed: Mapping[str, Any],
) -> dict[str, Any]:
    """Values for the parameters that need one: required, configured, attention functions, dropout.

    Raises:
        NoSuchChoiceError: where a parameter has no such candidate.
    """
    arguments: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in fixed:
            arguments[name] = fixed[name]
        elif parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        elif spec.masking and "causal" in name.lower() and type(parameter.default) in (bool, type):
            arguments[name] = True
        elif parameter.default is inspect.Parameter.empty:
            arguments[name] = _pick_value(list_candidates(parameter, spec, table), choice.get(name, 0))
        elif choice.get(name):
            arguments[name] = _pick_value(list_candidates(parameter, spec, table), choice[name] - 1)
        elif spec.small and table is CALL_VALUES and is_long_chunk(parameter):
            arguments[name] = SHORT_CHUNK
        elif (
            spec.small
            and table is CONSTRUCTOR_VALUES
            and type(parameter.default) is int
            and parameter.default > LARGE_DEFAULT
        ):
            arguments[name] = next(iter(find_values_by_name(name, table, spec)), parameter.default)
        elif "drop" in name.lower() and isinstance(parameter.default, float):
            arguments[name] = 0.0
        elif name.lower() in attention_names.ATTENTION_PARAMETERS and (
            parameter.default is None or callable(parameter.default)
        ):
            arguments[name] = spec.base
    return arguments


def _pick_value(values: list[Any], index: int) -> Any:
    if index >= len(values):
        raise NoSuchChoiceError
    return values[index]


def assign_roles(parameters: Mapping[str, inspect.Parameter]) -> dict[str, str]:
    """The parameters that hold q, k, v (or qkv, kv): by name, else the first three that need a value."""
    found: dict[str, str] = {}
    for name, parameter in parameters.items():
        role = attention_names.get_role(name)
        takes_many = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if role is not None and role not in found.values() and not takes_many:
            found[name] = role
    if {"q", "k", "v"} <= set(found.values()) or "qkv" in found.values() or {"q", "kv"} <= set(found.values()):
        return {name: role for name, role in found.items() if role in _select_used_roles(set(found.values()))}
    required = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and p.kind in POSITIONAL]
    return dict(zip(required, QKV, strict=False)) if len(required) >= len(QKV) else {}


def _select_used_roles(roles: set[str]) -> set[str]:
    if set(QKV) <= roles:
        return set(QKV)
    return {"qkv"} if "qkv" in roles else {"q", "kv"}
