"""Dtypes: what autocast makes of the inputs, and what sums are kept in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums are kept in: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def autocast_dtype(x: Tensor) -> torch.dtype:
    """The dtype that autocast gives to an input of scaled_dot_product_attention: float64 and booleans stay."""
    device = x.device.type
    active = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if not active or not x.is_floating_point() or x.dtype == torch.float64:
        return x.dtype
    return torch.get_autocast_dtype(device)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Autocast off on the tensor's device: the backends choose the dtypes of their sums themselves."""
    device = x.device.type
    active = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if active else nullcontext()
