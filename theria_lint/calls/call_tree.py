"""Turn the arguments of a call into data, and such data into arguments again. Never pickles; never imports.

A class or function is named; where the call is made again it is looked up among the modules that are loaded already,
and taken only if it is of the kind that is wanted.
"""

from __future__ import annotations

import enum
import functools
import math
import os
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from theria_lint.calls.call_file import LARGEST, LINTED_PREFIX, SHORTEST
from theria_lint.calls.constructions import Built
from theria_lint.reasons import CodedError, Reason, ReasonCode

SMALL = 64
"""Floating-point tensors of up to so many numbers are kept as they are; of larger ones, their statistics."""

FEW = 8
"""A larger one with at most so many different numbers is a mask, and kept as it is too."""

LARGEST_NUMBER = 1e15
"""Numbers beyond this stand for infinity, as masks hold them: nobody differentiates in these."""

MOST_BYTES = 1 << 19
"""Of tensors that are larger than this, once what repeats along an axis is left out, the beginning is kept."""

_HEADERS = 1 << 14
"""Bytes of a file of tensors that its header may take."""

_DEEPEST = 12

SCRIPT = "__main__"
"""The module that a script is; a process that it starts gives it another name."""


class LostArgumentError(CodedError, ValueError):
    """An argument could not be kept, or cannot be made again; the reason says why."""


Tree = dict[str, Any]


class TreeWriter:
    """Writes trees; ``tensors`` collects those that are kept whole, ``lost`` why something could not be kept."""

    def __init__(self, find_constructor: Callable[[nn.Module], Built | None], path: str) -> None:
        """``find_constructor`` tells what a module was built with; ``path`` is the real path of the target's file."""
        self.tensors: dict[str, Tensor] = {}
        self.lost: list[Reason] = []
        self._find_constructor = find_constructor
        self._path = path
        self._room = LARGEST - _HEADERS

    def write_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The ``args`` and ``kwargs`` of a document."""
        return {
            "args": [self.write(value) for value in args],
            "kwargs": {name: self.write(value) for name, value in kwargs.items()},
        }

    def write(self, value: Any, depth: int = 0) -> Tree:
        """The tree of a value."""
        if depth > _DEEPEST:
            return self._lose(ReasonCode.TOO_DEEP)
        if value is None or isinstance(value, bool | str):
            return {"value": value}
        if isinstance(value, enum.Enum):
            name = self._name(type(value))
            return (
                {"member": f"{name}.{value.name}"}
                if name
                else self._lose(ReasonCode.LOCAL_NAME, kind="object", name=type(value).__name__)
            )
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
        if type(value) in (dict, OrderedDict, defaultdict):
            return {"dict": self._write_pairs(value, depth)}
        return self._write_object(value, depth)

    def _lose(self, code: ReasonCode, **data: Any) -> Tree:
        self.lost.append(Reason(code, data))
        return {"lost": str(code)}

    def _write_pairs(self, table: Mapping[Any, Any], depth: int) -> list[list[Tree]]:
        return [[self.write(key, depth + 1), self.write(value, depth + 1)] for key, value in table.items()]

    def _write_tensor(self, tensor: Tensor) -> Tree:
        if tensor.layout is not torch.strided or tensor.is_quantized:
            return self._lose(ReasonCode.LAYOUT_NOT_KEPT, layout=str(tensor.layout), dtype=str(tensor.dtype))
        told: Tree = {
            "shape": list(tensor.shape),
            "stride": list(tensor.stride()),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "device": tensor.device.type,
            "requires_grad": tensor.requires_grad,
        }
        plain = tensor.detach()
        if tensor.is_floating_point() or tensor.is_complex():
            numbers = torch.view_as_real(plain.to(torch.complex64)) if tensor.is_complex() else plain.float()
            if tensor.numel() > SMALL and not _is_mask(numbers):
                if not bool(numbers.isfinite().all()):
                    return self._lose(ReasonCode.NUMBERS_NOT_FINITE)
                found = (numbers.mean(), numbers.std(), numbers.min(), numbers.max())
                return {"tensor": told | dict(zip(("mean", "std", "low", "high"), map(float, found), strict=True))}
        base = _drop_repetition(plain)
        corner = _take_corner(base, min(MOST_BYTES, self._room))
        if corner is None:
            return self._lose(ReasonCode.TENSOR_TOO_LARGE, numbers=tensor.numel())
        if corner.shape != base.shape:
            told["corner"] = [
                full if size == 1 else left
                for full, size, left in zip(tensor.shape, base.shape, corner.shape, strict=True)
            ]
        name = f"t{len(self.tensors)}"
        self.tensors[name] = corner.cpu().contiguous().clone()
        self._room -= corner.numel() * corner.element_size()
        return {"tensor": told | {"kept": name}}

    def _write_object(self, value: Any, depth: int) -> Tree:
        if isinstance(value, nn.Module):
            built = self._find_constructor(value)
            name = self._name(type(value))
            if built is None or name is None:
                return self._lose(ReasonCode.BUILT_UNSEEN, kind=type(value).__name__)
            given = self.write_arguments(built.args, built.kwargs)
            return {"module": {"class": name, "training": value.training, **given}}
        if type(value) is functools.partial:
            given = self.write_arguments(value.args, value.keywords)
            return {"partial": {"function": self.write(value.func, depth + 1), **given}}
        if isinstance(value, FunctionType | BuiltinFunctionType):
            name = self._name(value)
            return (
                {"function": name}
                if name
                else self._lose(ReasonCode.LOCAL_NAME, kind="function", name=value.__qualname__)
            )
        if isinstance(value, type):
            name = self._name(value)
            return {"class": name} if name else self._lose(ReasonCode.LOCAL_NAME, kind="class", name=value.__qualname__)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            name = self._name(type(value))
            if name is None:
                return self._lose(ReasonCode.LOCAL_NAME, kind="object", name=type(value).__name__)
            return {"record": {"class": name, "parts": [self.write(part, depth + 1) for part in value]}}
        state, name = _read_state(value), self._name(type(value))
        if state is None or name is None:
            return self._lose(ReasonCode.OBJECT_NOT_KEPT, kind=type(value).__name__)
        return {"object": {"class": name, "state": self._write_pairs(state, depth)}}

    def _name(self, held: Any) -> str | None:
        """``module:qualified.name`` of a class or function, by which it can be found again where the target is run."""
        home, place = getattr(held, "__module__", None), getattr(held, "__qualname__", "")
        name = getattr(held, "__name__", "")
        if isinstance(held, BuiltinFunctionType) and getattr(torch, name, None) is held:  # whatever its module is
            return f"torch:{name}"
        module = sys.modules.get(home or "")
        found: Any = module
        for part in place.split("."):
            found = getattr(found, part, None)
        if found is None or getattr(found, "__wrapped__", found) is not getattr(held, "__wrapped__", held):
            return None
        if home in _SCRIPTS:
            return f"{SCRIPT}:{place}" if os.path.realpath(getattr(module, "__file__", "")) == self._path else None
        return f"{home}:{place}"


_SCRIPTS = (SCRIPT, "__mp_main__")


def _is_mask(numbers: Tensor) -> bool:
    """Whether numbers are few, or stand for infinity: such a tensor is no sample of anything."""
    extreme = bool((numbers.abs() > LARGEST_NUMBER).any())
    return extreme or len(torch.unique(numbers.flatten()[: 1 << 16])) <= FEW


def _drop_repetition(tensor: Tensor) -> Tensor:
    """The tensor with one row along each axis along which all are the same, as those of an expanded mask are."""
    for axis, size in enumerate(tensor.shape):
        if size > 1:
            first = tensor.narrow(axis, 0, 1)
            if tensor.stride(axis) == 0 or torch.equal(first.expand_as(tensor), tensor):
                tensor = first
    return tensor


def _take_corner(tensor: Tensor, room: int) -> Tensor | None:
    """The beginning of a tensor, its longest axes halved alike until it fits; None where next to nothing would."""
    while tensor.numel() * tensor.element_size() > room:
        longest = max(tensor.shape, default=0)
        if longest <= SHORTEST:
            return None
        for axis, size in enumerate(tensor.shape):
            if size == longest:
                tensor = tensor.narrow(axis, 0, max(longest // 2, SHORTEST))
    return tensor


def _read_state(value: Any) -> dict[str, Any] | None:
    """The attributes of an object that is data: a dataclass, or one that holds nothing but its attributes."""
    state = getattr(value, "__dict__", None)
    if is_dataclass(value):  # which may hold more than its fields
        told = {field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)}
        return told | (state or {})
    slots = any(getattr(cls, "__slots__", ()) for cls in type(value).__mro__)
    return dict(state) if isinstance(state, dict) and not slots else None


def _find(name: str, home: str) -> Any:
    """What a name ``module:qualified.name`` stands for among the modules that are loaded; None for nothing.

    A script, and a module that was imported from another folder, has another name here; ``home`` is the target's.
    """
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(home if module == SCRIPT else module)
    if found is None:
        top = home.partition(".")[0]
        known = (other for other in list(sys.modules) if other.partition(".")[0] == top)
        alike = next((other for other in known if _is_same_module(other, module)), None)
        found = sys.modules[alike] if alike else None
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _is_same_module(here: str, there: str) -> bool:
    here = here.removeprefix(LINTED_PREFIX)
    return here == there or here.endswith(f".{there}") or there.endswith(f".{here}")


MakeTensor = Callable[[str, Tree], Tensor]
"""Makes a tensor of what a tree says of it; the name is the way to it among the arguments."""


class TreeReader:
    """Makes arguments of trees; ``home`` is the target's module, whose package's functions may be handed over.

    ``modules`` holds those that were made, by their way among the arguments: they are made once. ``cut`` says what
    becomes of whole numbers that are sizes of axes.
    """

    def __init__(
        self,
        make_tensor: MakeTensor,
        home: str,
        modules: dict[str, nn.Module] | None = None,
        cut: Mapping[int, int] | None = None,
    ) -> None:
        """Keep what makes the tensors."""
        self._make_tensor, self._home, self._cut = make_tensor, home, cut or {}
        self.modules = {} if modules is None else modules

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
                return self._cut.get(held, held) if type(held) is int else held
            case "float":
                return float(held)
            case "list" | "tuple" | "set":
                parts = [self.read(part, f"{name}[{index}]") for index, part in enumerate(held)]
                return {"list": list, "tuple": tuple, "set": set}[kind](parts)
            case "dict":
                return {self.read(key, name): self.read(part, f"{name}.{_label(key)}") for key, part in held}
            case "size":
                return torch.Size(self._cut.get(size, size) for size in held)
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
            case "record":
                return self._read_record(held, name)
            case "function":
                return self._read_function(held)
            case "class":
                return self._read_type(held)
            case "partial":
                args, kwargs = self.read_arguments(held, f"{name}.")
                return functools.partial(self.read(held["function"], name), *args, **kwargs)
            case "member":
                return self._read_member(held)
        raise LostArgumentError(ReasonCode.OBJECT_NOT_KEPT, kind=name)

    @staticmethod
    def _read_dtype(name: str) -> torch.dtype:
        found = getattr(torch, name, None)
        if not isinstance(found, torch.dtype):
            raise LostArgumentError(ReasonCode.NO_SUCH_NAME, kind="dtype", name=name)
        return found

    def _read_object(self, held: Tree, name: str) -> Any:
        cls = self._read_class(held["class"])
        if issubclass(cls, nn.Module):
            raise LostArgumentError(ReasonCode.NOT_OF_KIND, name=held["class"], kind="object")
        made = object.__new__(cls)
        state = {self.read(key, name): self.read(part, f"{name}.{_label(key)}") for key, part in held["state"]}
        for key, value in state.items():
            object.__setattr__(made, key, value)
        return made

    def _read_record(self, held: Tree, name: str) -> Any:
        cls = self._read_class(held["class"])
        fields = getattr(cls, "_fields", None)
        if not issubclass(cls, tuple) or fields is None or len(fields) != len(held["parts"]):
            raise LostArgumentError(ReasonCode.NOT_OF_KIND, name=held["class"], kind="record")
        pairs = zip(fields, held["parts"], strict=True)
        return tuple.__new__(cls, (self.read(part, f"{name}.{field}") for field, part in pairs))

    def _read_module(self, held: Tree, name: str) -> nn.Module:
        if name not in self.modules:
            cls = self._read_class(held["class"])
            if not issubclass(cls, nn.Module):
                raise LostArgumentError(ReasonCode.NOT_OF_KIND, name=held["class"], kind="module")
            args, kwargs = self.read_arguments(held, f"{name}.")
            self.modules[name] = cls(*args, **kwargs).train(bool(held.get("training", True)))
        return self.modules[name]

    def _read_class(self, name: str) -> type:
        found = _find(name, self._home)
        if not isinstance(found, type):
            raise LostArgumentError(ReasonCode.NO_SUCH_NAME, kind="class", name=name)
        return found

    def _read_type(self, name: str) -> type:
        """A class that is handed over: whoever is given it builds something of it."""
        found = self._read_class(name)
        if not issubclass(found, nn.Module) and not self._is_known(found):
            raise LostArgumentError(ReasonCode.NO_SUCH_NAME, kind="class", name=name)
        return found

    def _is_known(self, found: Any) -> bool:
        """Whether something is of the target's package or PyTorch's, and may be called by whoever is given it."""
        top = (getattr(found, "__module__", None) or "torch").partition(".")[0]
        return top in (self._home.partition(".")[0], "torch")

    def _read_function(self, name: str) -> Any:
        found = _find(name, self._home)
        if not callable(found) or isinstance(found, type) or not self._is_known(found):
            raise LostArgumentError(ReasonCode.NO_SUCH_NAME, kind="function", name=name)
        return found

    def _read_member(self, name: str) -> Any:
        found = _find(name, self._home)
        if not isinstance(found, enum.Enum):
            raise LostArgumentError(ReasonCode.NO_SUCH_NAME, kind="member", name=name)
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
