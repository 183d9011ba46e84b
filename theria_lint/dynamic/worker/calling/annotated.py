"""What the annotation of a constructor's parameter says of its value."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from torch import nn

from theria_lint.dynamic.worker.calling.arguments import Values, by_name
from theria_lint.dynamic.worker.calling.parts import MODULE_BUILD
from theria_lint.dynamic.worker.calling.scene import Scene


def annotated(hint: Any) -> Values | None:
    """The words of a ``Literal``, the members of an ``Enum``, or as many numbers as a tuple has; None for any other."""
    for part in _parts(hint):
        if get_origin(part) is Literal:
            return _constants(list(get_args(part)))
        if inspect.isclass(part) and issubclass(part, Enum):
            return _constants(list(part))
        if get_origin(part) is tuple and len(entries := get_args(part)) > 1 and set(entries) <= {int, float}:
            return _as_many(len(entries))
    return None


def layer_class(cls: Any, name: str, hint: Any) -> Any:
    """The class of the layer that a parameter is given: its annotation or, for any layer, the package's class so named.

    None where the parameter holds no layer, or one that its name does not tell.
    """
    for part in _parts(hint):
        if inspect.isclass(part) and issubclass(part, nn.Module) and part is not cls:
            return part if part is not nn.Module else _class_named(cls, name)
    return None


def _class_named(cls: Any, name: str) -> Any:
    package = cls.__module__.partition(".")[0]
    wanted = name.replace("_", "").lower()
    for module in [m for key, m in list(sys.modules.items()) if key.partition(".")[0] == package]:
        for found in list(vars(module).values()):
            if inspect.isclass(found) and issubclass(found, nn.Module) and found.__name__.lower() == wanted:
                return found if found is not cls else None
    return None


def _parts(hint: Any) -> Iterator[Any]:
    """An annotation, or the alternatives of a union."""
    yield hint
    if get_origin(hint) is not tuple:
        yield from get_args(hint)


def _constants(values: list[Any]) -> Values:
    return lambda name, scene: list(values)


def _as_many(count: int) -> Values:
    """The numbers that a name suggests, as tuples of a length."""

    def make(name: str, scene: Scene) -> list[Any]:
        values = [v if isinstance(v, tuple) else (v,) * count for v in by_name(name, MODULE_BUILD, scene)]
        return [value for value in dict.fromkeys(values) if len(value) == count] or [(1,) * count]

    return make
