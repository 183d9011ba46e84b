"""Prepare a module that was built for being called, and keep one that refused what it was called with."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from theria_lint.worker.find_call.call_strategy import ATTRIBUTE, TrialSpec
from theria_lint.worker.fresh_state import TargetState


@dataclass(frozen=True)
class PreparedModule:
    """A module, what it was built from, and the state that it starts with: None if its first call makes some of it."""

    module: nn.Module
    key: Hashable
    start: TargetState | None


class SpareModule:
    """The last module that refused its arguments: the next trial would build the same.

    To build a model of millions of weights takes far longer than it takes to refuse an image of the wrong layout.
    """

    def __init__(self) -> None:
        """Hold none."""
        self._held: PreparedModule | None = None

    def keep(self, refusing: PreparedModule) -> None:
        """Hold a module that has raised."""
        self._held = refusing

    def take(self, key: Hashable) -> PreparedModule | None:
        """The module that was built from this, in the state that it started with; None where there is none."""
        held, self._held = self._held, None
        if held is None or held.start is None or held.key != key:
            return None
        held.start.renew()
        return held


def look_at_state(module: nn.Module, home: str) -> TargetState | None:
    """The state of a module of the file ``home``; None while it has lazy parameters."""
    lazy = any(map(nn.parameter.is_lazy, (*module.parameters(), *module.buffers())))
    return None if lazy else TargetState(module, sys.modules.get(home))


def turn_attributes(module: Any, spec: TrialSpec) -> None:
    """Give attributes, also of modules in a module, the values that a spec says; a buffer is filled with them."""
    for place, value in spec.list_turned(ATTRIBUTE).items():
        *path, name = place.split(".")
        holder = reduce(getattr, path, module)
        held = getattr(holder, name, None)
        setattr(holder, name, torch.full_like(held, value) if isinstance(held, Tensor) else value)


def prepare_module(module: nn.Module, spec: TrialSpec) -> None:
    """Move a module to the spec, silence its dropout if that is not wanted, shake parameters of a special value."""
    module.to(device=spec.device, dtype=spec.dtype).train(not spec.evaluating)
    for part_ in module.modules() if not spec.dropping else ():
        if isinstance(part_, nn.modules.dropout._DropoutNd):
            part_.p = 0.0
    perturb_parameters(dict(module.named_parameters()), spec)


def perturb_parameters(parameters: Mapping[str, nn.Parameter], spec: TrialSpec) -> None:
    """Add noise to parameters: one that starts at zero hides whatever stands behind it."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.is_floating_point() and not nn.parameter.is_lazy(parameter):
                noise = _draw_noise(name, parameter, spec)
                spread = float(parameter.float().std()) if parameter.numel() > 1 else 0.0
                parameter.add_(0.3 * (spread or 0.5) * noise)


_MANY = 1 << 16
"""So many numbers are drawn in single precision: in double that takes longer than to build a model and to run it."""


def _draw_noise(name: str, parameter: nn.Parameter, spec: TrialSpec) -> Tensor:
    if parameter.numel() < _MANY:
        return spec.draw_tensor(name, tuple(parameter.shape))
    generator = torch.Generator().manual_seed(spec.seed + zlib.crc32(name.encode()))
    return torch.randn(tuple(parameter.shape), generator=generator, dtype=torch.float32, device="cpu").to(parameter)
