"""Give every evaluation of a target the state that it started with, whatever earlier calls have left behind.

What a target remembers is in attributes, buffers and parameters of modules, and in what its file keeps in globals, in
attributes of functions and of classes, in closures, defaults and caches of results. Objects stay the same ones where
they can: closures and hooks know them.
"""

from __future__ import annotations

import ast
import copy
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from theria_lint.worker.find_call.signatures import parse_source

_STRUCTURE = frozenset({*vars(nn.Module())} - {"training"})
"""What every module has: parameters, buffers and submodules are looked after one by one, hooks are left alone."""

_CONTAINERS = (list, set, deque, MutableMapping, Tensor)
_PLAIN = (bool, int, float, str, type(None))
_CachedFunction: Any = type(lru_cache(lambda: None))
_LARGEST = 1000
"""A container with more in it is a table, and not what a call remembers."""


class TargetState:
    """What a target remembers, as it was when this was made."""

    def __init__(self, module: nn.Module | None, home: ModuleType | None) -> None:
        """Look at a built module, if there is one, and at the file ``home`` that the target stands in."""
        modules = list(module.modules()) if module is not None else []
        shared = _look_at_file(home) if home is not None else _FileMemory([], [], [])
        modules += shared.modules
        functions = _list_functions(value for part in modules for value in vars(part).values())
        self._caches = [*shared.caches, *_list_caches(functions)]
        self._modules = [_ModuleMemory(part) for part in dict.fromkeys(modules)]
        # What is remembered may point at parts of the module, which are not to be copied.
        self._own: dict[int, Any] = {id(part): part for part in modules}
        self._own |= {id(p): p for part in modules for p in part._parameters.values() if p is not None}
        spaces = [_Space(vars(part), _list_attributes(part), removes=True) for part in dict.fromkeys(modules)]
        spaces += [space for function in functions for space in _list_function_spaces(function, home)]
        self._spaces = [*shared.spaces, *(space for space in spaces if space.remember(self._own))]
        self._root = module
        self._names = self._list_parameter_names()

    def renew(self) -> None:
        """Make everything as it was."""
        for memory in self._modules:
            memory.restore()
        for space in self._spaces:
            space.restore(self._own)
        for cached in self._caches:
            cached.cache_clear()

    def has_all_parameters(self) -> bool:
        """Whether no parameter has been made since: lazy ones are made by the first call."""
        return self._list_parameter_names() <= self._names

    def _list_parameter_names(self) -> set[str]:
        found = self._root.named_parameters() if self._root is not None else ()
        return {name for name, parameter in found if not nn.parameter.is_lazy(parameter)}


class _ModuleMemory:
    """The parameters, buffers and submodules of one module, without what is below them."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters = {n: p for n, p in module._parameters.items() if p is not None}
        self.children = dict(module._modules)
        self.buffers = dict(module._buffers)
        self._values = {id(t): _Value(t) for t in (*self.parameters.values(), *self.buffers.values()) if t is not None}

    def restore(self) -> None:
        space = self.module
        _put_back(space._parameters, self.parameters)
        _put_back(space._modules, self.children)
        for parameter in self.parameters.values():
            self._values[id(parameter)].restore_data()
        for name, buffer in self.buffers.items():
            if buffer is None or space._buffers.get(name) is not buffer or self._values[id(buffer)].has_changed():
                space._buffers[name] = None if buffer is None else self._values[id(buffer)].make_copy()
        for name in space._buffers.keys() - self.buffers.keys():
            del space._buffers[name]


def _put_back(held: dict[str, Any], known: Mapping[str, Any]) -> None:
    """Make a dictionary hold the objects that it held; what holds nothing stays."""
    rest = {name: value for name, value in held.items() if value is None}
    if any(held.get(name) is not value for name, value in known.items()) or held.keys() != {*known, *rest}:
        held.clear()
        held.update({**known, **rest})


class _Value:
    """A tensor and the numbers in it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._lazy = nn.parameter.is_lazy(tensor)
        self._copy = tensor if self._lazy else tensor.detach().clone()
        self._is_learnt = tensor.requires_grad
        self._version, self._place = self._mark()

    def _mark(self) -> tuple[int, int]:
        return (0, 0) if nn.parameter.is_lazy(self.tensor) else (self.tensor._version, self.tensor.data_ptr())

    def has_changed(self) -> bool:
        """Whether it has been written to, or holds other memory, or is in a graph."""
        # Writing through ``.data`` leaves no mark.
        moved = self._mark() != (self._version, self._place) or self.tensor.grad_fn is not None
        return moved or not (self._lazy or torch.equal(self.tensor.detach(), self._copy))

    def restore_data(self) -> None:
        """Give the same tensor its numbers back, in memory of their own: earlier graphs keep theirs; and its flag."""
        if not self._lazy and self.has_changed():
            self.tensor.data = self._copy.clone()
            self._version, self._place = self._mark()
        if self.tensor.is_leaf and self.tensor.requires_grad is not self._is_learnt:
            self.tensor.requires_grad_(self._is_learnt)

    def make_copy(self) -> Tensor:
        """The numbers in another tensor."""
        return self._copy.clone()


@dataclass
class _Space:
    """Names that hold what is remembered; ``removes``: whether names that come later are no names of the start."""

    held: MutableMapping[str, Any]
    names: Iterable[str]
    removes: bool = False
    _start: dict[str, Any] = field(default_factory=dict)

    def remember(self, own: Mapping[int, Any]) -> bool:
        """Copies what the names hold; whether there is anything to look after."""
        for name in self.names:
            with suppress(Exception):  # what cannot be copied stays as it is
                self._start[name] = copy.deepcopy(self.held[name], dict(own))
        return bool(self._start) or self.removes

    def restore(self, own: Mapping[int, Any]) -> None:
        """Put copies in the place of what is there now."""
        if self.removes:
            for name in [n for n in self.held if n not in self._start and n not in self.names and n not in _STRUCTURE]:
                del self.held[name]
        kept = {n for n, v in self._start.items() if isinstance(v, _PLAIN) and n in self.held and self.held[n] is v}
        changed = {n: v for n, v in self._start.items() if n not in kept}
        with suppress(Exception):
            self.held.update(copy.deepcopy(changed, dict(own)))


class _ClassSpace(MutableMapping[str, Any]):
    """The attributes of a class: its namespace is written by ``setattr`` alone."""

    def __init__(self, owner: type) -> None:
        self._owner = owner

    def __getitem__(self, name: str) -> Any:
        return vars(self._owner)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self._owner, name, value)

    def __delitem__(self, name: str) -> None:
        delattr(self._owner, name)

    def __iter__(self) -> Iterator[str]:
        return iter(list(vars(self._owner)))

    def __len__(self) -> int:
        return len(vars(self._owner))


class _ClosureSpace(MutableMapping[str, Any]):
    """What a function has of the functions around it, by the names there."""

    def __init__(self, function: FunctionType) -> None:
        self._cells: dict[str, CellType] = dict(
            zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        )

    def __getitem__(self, name: str) -> Any:
        return self._cells[name].cell_contents

    def __setitem__(self, name: str, value: Any) -> None:
        self._cells[name].cell_contents = value

    def __delitem__(self, name: str) -> None:
        del self._cells[name].cell_contents

    def __iter__(self) -> Iterator[str]:
        return (name for name, cell in self._cells.items() if cell != CellType())

    def __len__(self) -> int:
        return len(list(iter(self)))


class _DefaultsSpace(MutableMapping[str, Any]):
    """The defaults of a function's parameters by position, by their numbers."""

    def __init__(self, function: FunctionType) -> None:
        self._function = function

    def __getitem__(self, name: str) -> Any:
        return (self._function.__defaults__ or ())[int(name)]

    def __setitem__(self, name: str, value: Any) -> None:
        held = [*(self._function.__defaults__ or ())]
        held[int(name)] = value
        self._function.__defaults__ = tuple(held)

    def __delitem__(self, name: str) -> None:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return map(str, range(len(self)))

    def __len__(self) -> int:
        return len(self._function.__defaults__ or ())


def _list_functions(values: Iterable[Any]) -> list[Any]:
    """The functions among some values, also those that keep their results, and those that these hold, each once."""
    found: dict[int, Any] = {}
    waiting = deque(values)
    while waiting:
        value = waiting.popleft()
        if isinstance(value, staticmethod | classmethod | MethodType):
            waiting.append(value.__func__)
        elif isinstance(value, property):
            waiting.append(value.fget)
        elif isinstance(value, FunctionType | _CachedFunction) and id(value) not in found:
            found[id(value)] = value
            waiting += _ClosureSpace(value).values() if isinstance(value, FunctionType) else [value.__wrapped__]
    return list(found.values())


def _list_caches(functions: Iterable[Any]) -> list[Any]:
    """The functions that keep their results: a graph may be among them."""
    return [function for function in functions if isinstance(function, _CachedFunction)]


def _list_function_spaces(function: Any, home: ModuleType | None) -> Iterator[_Space]:
    """What a function may remember things in: what is around it, and its defaults.

    Of one that another library has made, and that stands for one of the file, only what can be filled.
    """
    if not isinstance(function, FunctionType) or home is None or function.__module__ != home.__name__:
        return
    kinds = (*_PLAIN, *_CONTAINERS) if function.__globals__ is vars(home) else _CONTAINERS
    for held in (_ClosureSpace(function), _DefaultsSpace(function), function.__kwdefaults__ or {}):
        names = [n for n, v in held.items() if isinstance(v, kinds) and (isinstance(v, _PLAIN) or _is_small(v))]
        if names:
            yield _Space(held, names)


def _list_attributes(module: nn.Module) -> list[str]:
    return [name for name in vars(module) if name not in _STRUCTURE]


class _FileMemory(NamedTuple):
    """Where a file may remember things: names with what they held, modules, and functions that keep their results."""

    spaces: list[_Space]
    modules: list[nn.Module]
    caches: list[Any]


@lru_cache(maxsize=16)
def _look_at_file(home: ModuleType) -> _FileMemory:
    """What a file may remember things in, as it is before the first of its targets is called."""
    spaces = [space for space in _list_global_spaces(home) if space.remember({})]
    values = list(vars(home).values())
    modules = [part for value in values if isinstance(value, nn.Module) for part in value.modules()]
    own = [value for value in values if isinstance(value, type) and value.__module__ == home.__name__]
    functions = _list_functions([*values, *(member for owner in own for member in vars(owner).values())])
    around = (space for function in functions for space in _list_function_spaces(function, home))
    spaces += [space for space in around if space.remember({})]
    return _FileMemory(spaces, modules, _list_caches(functions))


def _list_global_spaces(home: ModuleType) -> Iterator[_Space]:
    """What a file may remember things in: its globals, and the attributes of its functions and classes."""
    space = vars(home)
    assigned = {name for node in ast.walk(parse_source(home)) if isinstance(node, ast.Global) for name in node.names}
    names = [n for n, v in space.items() if not n.startswith("__") and (n in assigned or _may_remember(v, home))]
    yield _Space(space, names)
    for value in list(space.values()):
        if getattr(value, "__module__", None) != home.__name__:
            continue
        if isinstance(value, FunctionType) and not any(name.startswith("_torchdynamo") for name in vars(value)):
            yield _Space(vars(value), list(vars(value)), removes=True)
        elif isinstance(value, type) and not issubclass(value, Enum):
            yield _Space(_ClassSpace(value), [n for n, v in vars(value).items() if _is_data(n, v)])


def _may_remember(value: Any, home: ModuleType) -> bool:
    """Whether a global holds what a call may change: a container, a tensor, an object of the file's own classes."""
    if isinstance(value, type | nn.Module | FunctionType | Enum):
        return False
    if isinstance(value, _CONTAINERS):
        return _is_small(value)
    return type(value).__module__ == home.__name__


def _is_small(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() <= _LARGEST
    return len(value) <= _LARGEST and not any(isinstance(part, nn.Module | ModuleType) for part in value)


def _is_data(name: str, value: Any) -> bool:
    """Whether an attribute of a class is data that a call may change."""
    if name.startswith(("__", "_abc")):
        return False
    return isinstance(value, _PLAIN) or (isinstance(value, _CONTAINERS) and _is_small(value))


class FreshCall:
    """A function of a target, every call of which begins with the state that the target started with."""

    def __init__(
        self,
        function: Any,
        module: nn.Module | None,
        home: str,
        rehearse: Callable[[], None] | None = None,
        start: TargetState | None = None,
    ) -> None:
        """``rehearse``: what is done before each call that counts, for what it leaves; ``start``: the known state."""
        self._function, self._module, self._rehearse = function, module, rehearse
        self._home = sys.modules.get(home)
        self._state = start or TargetState(module, self._home)
        self._held = False
        self._checked = module is None

    def __call__(self, *values: Any, **others: Any) -> Any:
        """What the function returns."""
        if not self._checked:
            self._check(*values, **others)
        self.prepare()
        return self._function(*values, **others)

    def _check(self, *values: Any, **others: Any) -> None:
        """The first call of a module, which makes sure that what comes out means something: it is several calls.

        It draws no random numbers of the call that counts.
        """
        # On copies: an inner ``.backward()`` leaves its gradient in the very tensors that it was called with.
        copies = [value.detach().clone().requires_grad_(value.requires_grad) for value in values]
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            self._function(*copies, **others)
        self._checked = True
        if not self._state.has_all_parameters():
            self._state = TargetState(self._module, self._home)

    def renew(self) -> None:
        """Make the state as it was when the target was made."""
        self._state.renew()

    def prepare(self) -> None:
        """Make the state as it is before each call, unless it is held."""
        if self._held:
            return
        self.renew()
        if self._rehearse is not None:
            self._rehearse()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Leave the state as it is: whoever puts other parameters in a module has prepared the call."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
