"""How exact a run can be: the relative error below which a difference from the oracle is rounding."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCES = {torch.float64: 1e-5, torch.float32: 2e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}
"""Relative error allowed to a derivative, by the precision that computed it.

About 10³ roundings of the dtype for float32 and a few for the half precisions, where a second derivative sums a few
dozen products; float64 is bounded by what code does that accumulates a part of its backward in float32.
"""

_ROUNDING = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 2e-3}
"""Relative forward errors up to which a run is taken for one in that precision."""


def effective_dtype(output: Tensor, dtype: torch.dtype, forward_error: float) -> torch.dtype:
    """The precision that a function computes in, which may be lower than that of its inputs.

    Some kernels compute in float32 inside a float64 call: their forward differs from the oracle's by float32's
    rounding, or every number that they return is a float32 number. ``forward_error`` is relative; 0 where nothing is
    known.
    """
    by_error = next((d for d, bound in _ROUNDING.items() if forward_error <= bound), torch.bfloat16)
    candidates = [dtype, output.dtype, by_error]
    value = output.detach().to(torch.float64)
    candidates += [
        d for d in (torch.float32, torch.float16, torch.bfloat16) if torch.equal(value.to(d).double(), value)
    ]
    return max(candidates, key=lambda d: TOLERANCES.get(d, 0.0))


def relative_error(measured: Tensor, truth: Tensor) -> float:
    """‖measured − truth‖ / ‖truth‖ in float64; infinite where a number is not finite."""
    difference = (measured.detach().to(torch.float64) - truth.detach().to(torch.float64)).norm()
    error = float(difference / truth.detach().to(torch.float64).norm().clamp_min(1e-300))
    return error if error == error else float("inf")
