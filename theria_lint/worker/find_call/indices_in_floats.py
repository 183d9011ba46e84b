"""Tell indices from numbers where a call was recorded with both as floating-point tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from theria.probes.point import trial
from theria_lint.worker.find_call.call_strategy import BoundCall

_LEAST, _MOST = 0.1, 0.3
"""How far whole numbers are moved up: what rounds them, either way, makes the same of them."""


def holds_whole_numbers(tensor: Tensor) -> bool:
    """Whether a floating-point tensor may hold indices, as tests give tokens that were never cast."""
    return bool(((tensor == tensor.floor()) & (tensor >= 0)).all())


def find_indices(made: BoundCall, whole: Mapping[str, Tensor], seed: int) -> frozenset[str]:
    """Which of some inputs, as they were recorded, the output does not depend on between one whole number and the next.

    There is no derivative in them, and between differences an index is another one, or not there. What a target only
    takes off the graph moves its output still.
    """
    return frozenset(name for name, tensor in whole.items() if _ignores_fractions(made, name, tensor, seed))


def _ignores_fractions(made: BoundCall, name: str, tensor: Tensor, seed: int) -> bool:
    above = torch.linspace(_LEAST, _MOST, tensor.numel()).view(tensor.shape).to(tensor)
    outputs = [trial(made.compute_output, {**made.inputs, name: given}, seed) for given in (tensor, tensor + above)]
    return torch.equal(*outputs)
