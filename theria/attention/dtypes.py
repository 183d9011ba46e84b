"""Dtypes: what autocast makes of the inputs, and what sums are kept in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums are kept in: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def is_autocast(device: torch.device) -> bool:
    """Whether autocast is on for a device."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def autocast(x: Tensor) -> Tensor:
    """What autocast makes of an input of scaled_dot_product_attention: float64 and booleans stay."""
    if not is_autocast(x.device) or not x.is_floating_point() or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Autocast off on the tensor's device: the backends choose the dtypes of their sums themselves."""
    return torch.autocast(x.device.type, enabled=False) if is_autocast(x.device) else nullcontext()
