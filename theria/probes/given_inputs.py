"""A function, or a module with its parameters, at inputs that the caller gives."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from theria.probes.point import Function

PARAMETERS = "p"
"""The name of a module's parameters, laid end to end, among the inputs."""


def bind_inputs(
    fn: Callable[..., Any], inputs: Sequence[Any], dtype: torch.dtype, device: str | None
) -> tuple[Function, dict[str, Tensor]]:
    """A function of the floating-point tensors among the inputs, and of a module's parameters; and these by name.

    A module is copied: it stays as it is. What is no floating-point tensor is handed on as it is.

    Raises:
        TypeError: if no input is a floating-point tensor.
    """
    names = _name_inputs(fn, len(inputs))
    variable = [place for place, value in enumerate(inputs) if _is_variable(value)]
    if not variable:
        raise TypeError("none of the inputs is a floating-point tensor: nothing can be differentiated by")
    where = device or inputs[variable[0]].device
    found = {names[place]: inputs[place].detach().to(where, dtype) for place in variable}
    fixed = [value.to(where) if isinstance(value, Tensor) else value for value in inputs]
    module = copy.deepcopy(fn).to(where, dtype) if isinstance(fn, nn.Module) else None
    parameters = _list_parameters(module) if module is not None else {}
    if parameters:
        found[PARAMETERS] = torch.cat([tensor.detach().reshape(-1) for tensor in parameters.values()])
    call = module or fn

    def function(*values: Tensor) -> Tensor:
        if module is not None and parameters:
            *values, vector = values  # type: ignore[assignment]
            _put_parameters(module, parameters, vector)
        arguments = list(fixed)
        for place, value in zip(variable, values, strict=True):
            arguments[place] = value
        output: Tensor = call(*arguments)
        return output

    return function, found


def _is_variable(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _name_inputs(fn: Callable[..., Any], count: int) -> list[str]:
    """The names of the parameters that positional inputs go to; numbers where they cannot be told."""
    try:
        signature = inspect.signature(fn.forward if isinstance(fn, nn.Module) else fn)
        by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [parameter.name for parameter in signature.parameters.values() if parameter.kind in by_place]
    except (TypeError, ValueError):
        names = []
    taken = {PARAMETERS, "out"}
    return [names[i] if i < len(names) and names[i] not in taken else f"input{i + 1}" for i in range(count)]


def _list_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in module.named_parameters() if p.is_floating_point() and p.requires_grad}


def _put_parameters(module: nn.Module, parameters: Mapping[str, nn.Parameter], vector: Tensor) -> None:
    """Let a module, a copy of ours, compute with the parts of a vector; they stay, for a backward may run it again."""
    sizes = [tensor.numel() for tensor in parameters.values()]
    parts = dict(zip(map(id, parameters.values()), torch.split(vector, sizes), strict=True))
    shapes = {id(tensor): tensor.shape for tensor in parameters.values()}
    for holder, name, known in _list_places(module, parameters):
        holder[name] = parts[known].reshape(shapes[known])


def _list_places(module: nn.Module, parameters: Mapping[str, nn.Parameter]) -> list[tuple[dict[str, Any], str, int]]:
    """Where a module holds its parameters: remembered on it, for it holds others once it has been called."""
    places: list[tuple[dict[str, Any], str, int]] | None = module.__dict__.get("_theria_places")
    if places is None:
        wanted = set(map(id, parameters.values()))
        places = [
            (part._parameters, name, id(tensor))
            for part in module.modules()
            for name, tensor in part._parameters.items()
            if id(tensor) in wanted
        ]
        module.__dict__["_theria_places"] = places
    return places
