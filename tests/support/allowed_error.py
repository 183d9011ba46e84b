"""How far a backend's derivative may be from the true one: the single place where that is decided.

A backend may err twice as much as plain eager attention does when it computes the same quantity in the same dtype,
and by the roundings that no implementation escapes: storing the result in its dtype, and adding up ``terms`` products
in the accumulator dtype, ``SUMS`` times in a row. The error of such a sum grows with the root of its length, and an
error of a logit, which is relative to the logit, becomes a relative error of its exponential. Everything is measured
against float64, in the largest absolute difference.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from theria.attention.dtypes import accumulator

#: A backend's error over eager attention's, at most.
EAGER_FACTOR = 2.0

#: Logits, row statistics, the gradient of the weights and that of the input: the longest chain of sums.
SUMS = 4


def error(measured: Tensor, exact: Tensor) -> float:
    """The largest absolute difference, in float64; infinite if anything measured is not finite."""
    difference = (measured.detach().double() - exact.detach().double()).abs()
    return float(difference.max()) if bool(torch.isfinite(difference).all()) else float("inf")


def allowed_error(
    exact: Tensor, eager: Tensor, *, size: float, dtype: torch.dtype, terms: int, largest_logit: float
) -> float:
    """The bound for a quantity whose float64 value is ``exact`` and whose value by eager attention is ``eager``.

    Args:
        exact: the quantity in float64.
        eager: the same computed by eager attention in ``dtype``.
        size: the magnitude of what is added up: rounding is relative to that, also where the sum cancels to nothing.
        dtype: what the backend under test ran in.
        terms: how many products its longest sum has, about the number of keys, queries and channels together.
        largest_logit: the largest absolute value of scale · q kᵀ.
    """
    growth = SUMS * math.sqrt(terms) * max(1.0, largest_logit)
    rounding = torch.finfo(dtype).eps + growth * torch.finfo(accumulator(dtype)).eps
    return EAGER_FACTOR * error(eager, exact) + size * rounding
