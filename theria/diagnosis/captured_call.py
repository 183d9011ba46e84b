"""Calls of a model's submodules, kept as the model makes them, and made again with other tensors."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

MAX_DEPTH = 8
"""How deep tensors are looked for in what is handed over."""

LARGEST = 1e15
"""Numbers beyond this stand for infinity, as masks hold them: nobody differentiates in these."""


def find_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor in arguments or outputs, each once, with the way to it: ``args[0]``, ``x.hidden``."""
    seen: set[int] = set()
    yield from _walk(value, name, seen, MAX_DEPTH)


def _walk(value: Any, name: str, seen: set[int], depth: int) -> Iterator[tuple[str, Tensor]]:
    if depth == 0 or id(value) in seen or isinstance(value, str | bytes | int | float | type | nn.Module | None):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield name, value
        return
    parts: Iterator[tuple[str, Any]]
    if isinstance(value, Mapping):
        parts = ((f"{name}.{key}" if name else str(key), part) for key, part in value.items())
    elif isinstance(value, Sequence | set):
        parts = ((f"{name}[{index}]", part) for index, part in enumerate(value))
    elif is_dataclass(value):
        parts = ((f"{name}.{f.name}", getattr(value, f.name, None)) for f in fields(value))
    else:
        parts = ((f"{name}.{key}", part) for key, part in getattr(value, "__dict__", {}).items())
    for path, part in parts:
        yield from _walk(part, path, seen, depth - 1)


def copy_with(value: Any, replaced: Mapping[int, Any]) -> Any:
    """Copy arguments as they are, but for tensors, which are replaced by identity, and modules, which are shared.

    What cannot be copied (a lock, a generator) is handed over as it is.
    """
    memo: dict[int, Any] = dict(replaced)
    _share_modules(value, memo, MAX_DEPTH)
    try:
        return copy.deepcopy(value, memo)
    except Exception:
        return value


def _share_modules(value: Any, memo: dict[int, Any], depth: int) -> None:
    if isinstance(value, nn.Module):
        memo[id(value)] = value
    elif depth and not isinstance(value, str | bytes | Tensor):
        held = value.values() if isinstance(value, Mapping) else value if isinstance(value, Sequence | set) else ()
        for part in (*held, *getattr(value, "__dict__", {}).values()):
            _share_modules(part, memo, depth - 1)


def is_differentiable(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers that somebody could differentiate in: of floating type, finite and not empty."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return False
    return bool(tensor.detach().abs().max() < LARGEST)


class CapturedCall:
    """One call of a module: its arguments as they were, tensors detached."""

    def __init__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Copy the arguments: what runs later may change them."""
        names = list(inspect.signature(module.forward).parameters)
        named = {names[i] if i < len(names) else f"args[{i}]": value for i, value in enumerate(args)} | kwargs
        tensors = list(find_tensors((args, kwargs)))
        copies = {id(tensor): tensor.detach().clone() for _, tensor in tensors}
        self.module = module
        self._args, self._kwargs = copy_with((args, kwargs), copies)
        self.inputs = {name: copies[id(tensor)] for name, tensor in find_tensors(named) if is_differentiable(tensor)}

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """Call the module again, with these in the place of ``inputs``."""
        replaced: dict[int, Any] = {id(t): t.clone() for _, t in find_tensors((self._args, self._kwargs))}
        replaced |= {id(t): new.clone() for t, new in zip(self.inputs.values(), inputs, strict=True)}
        args, kwargs = copy_with((self._args, self._kwargs), replaced)
        return self.module(*args, **kwargs)


@contextmanager
def capture_calls(model: nn.Module) -> Iterator[dict[str, CapturedCall]]:
    """Keep the first call of every submodule that is made inside, by its name."""
    calls: dict[str, CapturedCall] = {}
    names = {id(module): name for name, module in model.named_modules()}

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = names[id(module)]
        if name not in calls and torch.is_grad_enabled():
            calls[name] = CapturedCall(module, args, kwargs)

    handles = [
        module.register_forward_pre_hook(keep, with_kwargs=True)
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
