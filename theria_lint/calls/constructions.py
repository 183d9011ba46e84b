"""Remember what living objects were built with: those of watched classes, and modules that are not PyTorch's own."""

from __future__ import annotations

import inspect
import sys
import weakref
from types import FrameType
from typing import Any, NamedTuple


class Built(NamedTuple):
    """The arguments with which something was built; ``factory``: the function of its file that returned it, if any."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    factory: str = ""


_CONSTRUCTED: dict[int, tuple[weakref.ref[Any], Built | None]] = {}
"""What living objects were built with, by identity; None where that is not known."""


def keep_constructor(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Remember the arguments of a constructor as long as what it builds lives."""
    _remember(instance, Built(args, dict(kwargs)))


def _remember(instance: Any, built: Built | None) -> None:
    key = id(instance)
    try:
        alive = weakref.ref(instance, lambda _: _CONSTRUCTED.pop(key, None))
    except TypeError:  # it cannot be referred to weakly
        _CONSTRUCTED.pop(key, None)
    else:
        _CONSTRUCTED[key] = alive, built


def find_constructor(instance: Any) -> Built | None:
    """What an object was built with, or one of the same class and the same parameters; None where nobody saw it.

    PyTorch's own modules are not watched: they know it themselves.
    """
    found = _CONSTRUCTED.get(id(instance))
    if found is not None:
        return found[1]
    if type(instance).__module__.startswith("torch.nn."):
        return _read_attributes(instance)
    built = next((built for alive, built in _CONSTRUCTED.values() if built and _is_copy(instance, alive())), None)
    _remember(instance, built)
    return built


def _read_attributes(module: Any) -> Built | None:
    """What one of PyTorch's modules was built with, by the attributes that have the names of parameters."""
    if type(module).__name__ == "Sequential":
        return Built(tuple(module), {})
    if type(module).__name__ == "ModuleList":
        return Built((list(module),), {})
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(module)).parameters.items():
        if name in ("device", "dtype"):
            continue
        if hasattr(module, name):
            value = getattr(module, name)
            given[name] = value is not None if name == "bias" and not isinstance(value, bool) else value
        elif parameter.default is inspect.Parameter.empty:
            return None
    return Built((), given)


def _is_copy(instance: Any, other: Any) -> bool:
    """Whether a module, copied as layers are, is of the form of another."""
    if type(instance) is not type(other) or not hasattr(instance, "named_parameters"):
        return False
    forms = [[(name, tuple(p.shape)) for name, p in module.named_parameters()] for module in (instance, other)]
    return forms[0] == forms[1]


def watch_modules() -> None:
    """Remember what modules are built with from now on, as soon as there is PyTorch."""
    torch = sys.modules.get("torch")
    module: Any = getattr(getattr(torch, "nn", None), "Module", None)
    if module is None or hasattr(module.__init__, "__wrapped__"):
        return
    init = module.__init__

    def recorded_init(instance: Any, *args: Any, **kwargs: Any) -> None:
        cls = type(instance)
        if id(instance) not in _CONSTRUCTED and not cls.__module__.startswith("torch."):
            alone = cls.__init__ is recorded_init  # it has no constructor of its own
            given = (args, kwargs) if alone else _read_constructor(instance, sys._getframe(1))
            if given is not None:
                keep_constructor(instance, *given)
        init(instance, *args, **kwargs)

    recorded_init.__wrapped__ = init  # type: ignore[attr-defined]
    module.__init__ = recorded_init


def _read_constructor(instance: Any, frame: FrameType | None) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments of the outermost constructor of an object that is running."""
    found = None
    while (
        frame is not None and frame.f_code.co_argcount and frame.f_locals.get(frame.f_code.co_varnames[0]) is instance
    ):
        if frame.f_code.co_name == "__init__":
            found = frame
        frame = frame.f_back
    if found is None:
        return None
    names, rest, keywords, values = inspect.getargvalues(found)
    count = found.f_code.co_argcount
    args = tuple(values[name] for name in names[1:count] if name in values)
    kwargs = {name: values[name] for name in names[count:] if name in values}
    return args + tuple(values.get(rest, ()) if rest else ()), kwargs | dict(
        values.get(keywords, {}) if keywords else {}
    )
