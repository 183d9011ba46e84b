"""Turn the arguments of a call into data, and such data into arguments again. Never pickles; never imports.

A class or function is named; where the call is made again it is looked up among the modules that are loaded already,
and taken only if it is of the kind that is wanted.
"""

from __future__ import annotations

import enum
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

SMALL = 64
"""Floating-point tensors of up to so many numbers are kept as they are; of larger ones, their statistics."""

MOST_NUMBERS = 1 << 15
"""Integer and boolean tensors of more numbers than this are not kept."""

_DEEPEST = 12


class LostArgumentError(ValueError):
    """An argument could not be kept, or cannot be made again; the message says why."""


Tree = dict[str, Any]


class TreeWriter:
    """Writes trees; ``tensors`` collects those that are kept whole, ``lost`` why something could not be kept."""

    def __init__(self, constructors: Callable[[nn.Module], tuple[tuple[Any, ...], dict[str, Any]] | None]) -> None:
        """``constructors`` tells what a module was built with; None where nobody saw it."""
        self.tensors: dict[str, Tensor] = {}
        self.lost: list[str] = []
        self._constructors = constructors

    def write_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The ``args`` and ``kwargs`` of a document."""
        return {
            "args": [self.write(value) for value in args],
            "kwargs": {name: self.write(value) for name, value in kwargs.items()},
        }

    def write(self, value: Any, depth: int = 0) -> Tree:
        """The tree of a value."""
        if depth > _DEEPEST:
            return self._lose("it is nested too deeply")
        if value is None or isinstance(value, bool | str):
            return {"value": value}
        if isinstance(value, enum.Enum):
            return {"member": f"{_name_of(type(value))}.{value.name}"}
        if isinstance(value, int | float):
            return {"value": value} if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, Tensor):
            return self._write_tensor(value)
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"device": str(value)}
        if isinstance(value, torch.Size):
            return {"size": list(value)}
        if type(value) in (list, tuple, set):
            return {type(value).__name__: [self.write(part, depth + 1) for part in value]}
        if type(value) is dict:
            return {"dict": self._write_pairs(value, depth)}
        return self._write_object(value, depth)

    def _lose(self, why: str) -> Tree:
        self.lost.append(why)
        return {"lost": why}

    def _write_pairs(self, table: Mapping[Any, Any], depth: int) -> list[list[Tree]]:
        return [[self.write(key, depth + 1), self.write(value, depth + 1)] for key, value in table.items()]

    def _write_tensor(self, tensor: Tensor) -> Tree:
        if tensor.layout is not torch.strided or tensor.is_complex() or tensor.is_quantized:
            return self._lose(f"a tensor of layout {tensor.layout} and {tensor.dtype} is not kept")
        told: Tree = {
            "shape": list(tensor.shape),
            "stride": list(tensor.stride()),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "device": tensor.device.type,
            "requires_grad": tensor.requires_grad,
        }
        plain = tensor.detach()
        if tensor.is_floating_point() and tensor.numel() > SMALL:
            numbers = plain.float()
            finite = numbers[numbers.isfinite()]
            if finite.numel() < numbers.numel() and not set(numbers[~numbers.isfinite()].tolist()) <= {-math.inf}:
                return self._lose("a tensor has numbers that are not finite")
            if finite.numel() == numbers.numel():
                found = (numbers.mean(), numbers.std(), numbers.min(), numbers.max())
                return {"tensor": told | dict(zip(("mean", "std", "low", "high"), map(float, found), strict=True))}
        if tensor.numel() > MOST_NUMBERS:
            return self._lose(f"a tensor of {tensor.numel()} numbers is too large to be kept whole")
        name = f"t{len(self.tensors)}"
        self.tensors[name] = plain.cpu().contiguous().clone()
        return {"tensor": told | {"kept": name}}

    def _write_object(self, value: Any, depth: int) -> Tree:
        if isinstance(value, nn.Module):
            given = self._constructors(value)
            if given is None:
                return self._lose(f"nobody saw how a {type(value).__name__} was built")
            return {"module": {"class": _name_of(type(value)), **self.write_arguments(*given)}}
        if isinstance(value, FunctionType | BuiltinFunctionType):
            return {"function": _name_of(value)} if _find(_name_of(value)) is value else self._lose("a local function")
        state = _read_state(value)
        if state is None or _find(_name_of(type(value))) is not type(value):
            return self._lose(f"an object of {type(value).__name__}")
        return {"object": {"class": _name_of(type(value)), "state": self._write_pairs(state, depth)}}


def _read_state(value: Any) -> dict[str, Any] | None:
    """The attributes of an object that is data: a dataclass, or one that holds nothing but its attributes."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)}
    state = getattr(value, "__dict__", None)
    slots = any(getattr(cls, "__slots__", ()) for cls in type(value).__mro__)
    return dict(state) if isinstance(state, dict) and not slots else None


def _name_of(held: Any) -> str:
    return f"{held.__module__}:{held.__qualname__}"


def _find(name: str) -> Any:
    """What a name ``module:qualified.name`` stands for among the modules that are loaded; None for nothing."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


MakeTensor = Callable[[str, Tree], Tensor]
"""Makes a tensor of what a tree says of it; the name is the way to it among the arguments."""


class TreeReader:
    """Makes arguments of trees; ``home`` is the top package of the target, whose functions may be handed over."""

    def __init__(self, make_tensor: MakeTensor, home: str) -> None:
        """Keeps what makes the tensors."""
        self._make_tensor, self._home = make_tensor, home

    def read_arguments(self, held: Mapping[str, Any], place: str = "") -> tuple[list[Any], dict[str, Any]]:
        """The positional and the keyword arguments.

        Raises:
            LostArgumentError: if one was not kept or names what is not there.
        """
        args = [self.read(tree, f"{place}{index}") for index, tree in enumerate(held["args"])]
        return args, {name: self.read(tree, f"{place}{name}") for name, tree in held["kwargs"].items()}

    def read(self, tree: Tree, name: str) -> Any:
        """The value of a tree."""
        ((kind, held),) = tree.items()
        match kind:
            case "value":
                return held
            case "float":
                return float(held)
            case "list" | "tuple" | "set":
                parts = [self.read(part, f"{name}[{index}]") for index, part in enumerate(held)]
                return {"list": list, "tuple": tuple, "set": set}[kind](parts)
            case "dict":
                return {self.read(key, name): self.read(part, f"{name}.{_label(key)}") for key, part in held}
            case "size":
                return torch.Size(held)
            case "dtype":
                return self._read_dtype(held)
            case "device":
                return torch.device("cpu")
            case "tensor":
                return self._make_tensor(name, held)
            case "object":
                return self._read_object(held, name)
            case "module":
                return self._read_module(held, name)
            case "function":
                return self._read_function(held)
            case "member":
                return self._read_member(held)
        raise LostArgumentError(f"{name}: {held}")

    @staticmethod
    def _read_dtype(name: str) -> torch.dtype:
        found = getattr(torch, name, None)
        if not isinstance(found, torch.dtype):
            raise LostArgumentError(f"there is no dtype {name}")
        return found

    def _read_object(self, held: Tree, name: str) -> Any:
        cls = _find(held["class"])
        if not isinstance(cls, type) or issubclass(cls, nn.Module):
            raise LostArgumentError(f"there is no class {held['class']}")
        made = object.__new__(cls)
        state = {self.read(key, name): self.read(part, f"{name}.{_label(key)}") for key, part in held["state"]}
        for key, value in state.items():
            object.__setattr__(made, key, value)
        return made

    def _read_module(self, held: Tree, name: str) -> nn.Module:
        cls = _find(held["class"])
        if not isinstance(cls, type) or not issubclass(cls, nn.Module):
            raise LostArgumentError(f"there is no module {held['class']}")
        args, kwargs = self.read_arguments(held, f"{name}.")
        made: nn.Module = cls(*args, **kwargs)
        return made

    def _read_function(self, name: str) -> Any:
        found = _find(name)
        if not callable(found) or name.partition(":")[0].partition(".")[0] not in (self._home, "torch"):
            raise LostArgumentError(f"there is no function {name} in its package or torch")
        return found

    @staticmethod
    def _read_member(name: str) -> Any:
        found = _find(name)
        if not isinstance(found, enum.Enum):
            raise LostArgumentError(f"there is no {name}")
        return found


def _label(key: Tree) -> str:
    return str(next(iter(key.values())))


def iter_tensors(tree: Any) -> Iterator[Tree]:
    """Yield what is said of each tensor in a tree."""
    if isinstance(tree, dict):
        if set(tree) == {"tensor"}:
            yield tree["tensor"]
            return
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from iter_tensors(part)
