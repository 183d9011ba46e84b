"""Whether a value that came from elsewhere is what its annotations say, all the way down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def conforms(value: object, kind: Any) -> bool:
    """Whether a value is of a type: a class, a dataclass by its fields, a union, ``tuple`` or ``dict`` of such."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(conforms(value, choice) for choice in inner)
    if origin is tuple and isinstance(value, tuple):
        kinds = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
        return len(kinds) == len(value) and all(map(conforms, value, kinds))
    if origin in (dict, Mapping) and isinstance(value, dict):
        return all(conforms(key, inner[0]) and conforms(item, inner[1]) for key, item in value.items())
    if is_dataclass(kind):
        return type(value) is kind and all(conforms(getattr(value, name), hint) for name, hint in _hints(kind).items())
    if kind is float:
        return type(value) in (float, int)
    return kind is Any or type(value) is kind


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
