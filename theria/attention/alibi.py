"""ALiBi (Press et al., "Train short, test long", 2022): a bias of the logits that falls linearly with distance.

Query i and key j have the bias −slope·|i + M − T − j|: the last query stands beside the last key, as FlashAttention has
it. Each head has a slope.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd import forward_ad

from theria.attention.canonical_problem import Problem

_COMPUTED_IN_KERNELS = "triton"


def apply_alibi(problem: Problem, backend: str) -> Problem:
    """The problem without slopes: the backend is told them where it computes the bias itself, else it is in the mask.

    The mask has derivatives for the slopes, and (H × T × M) numbers.
    """
    slopes = problem.slopes
    if slopes is None:
        return problem
    if backend == _COMPUTED_IN_KERNELS and _is_constant(slopes):
        return replace(problem, slopes=None, settings=replace(problem.settings, slopes=slopes))
    return replace(problem, slopes=None, mask=_add_to_mask(_compute_bias(problem, slopes), problem.mask))


def _is_constant(slopes: Tensor) -> bool:
    """Whether nothing can want a derivative for the slopes, nor map over them."""
    if slopes.requires_grad:
        return False
    if torch._C._are_functorch_transforms_active():  # they wrap what they transform, and the batch may be mapped
        return slopes.shape[0] == 1 and not torch._C._functorch.is_functorch_wrapped_tensor(slopes)
    if forward_ad._current_level < 0:
        return True
    tangent = forward_ad.unpack_dual(slopes).tangent  # type: ignore[no-untyped-call]
    return tangent is None


def _compute_bias(problem: Problem, slopes: Tensor) -> Tensor:
    """(B|1, H, T, M)."""
    queries, keys = problem.q.shape[2], problem.k.shape[2]
    places = torch.arange(keys - queries, keys, device=slopes.device)
    distance = (places[:, None] - torch.arange(keys, device=slopes.device)).abs()
    return -slopes[:, :, None, None] * distance


def _add_to_mask(bias: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return bias
    return bias.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else bias + mask
