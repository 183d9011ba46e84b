"""Which backend suits a problem."""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec

import torch

from theria.attention.canonical_problem import Problem

_WIDEST = 256
_WIDEST_FLOAT64 = 128
_LONG = {torch.float16: 1024, torch.bfloat16: 1024, torch.float32: 2048}
"""From these lengths on the fused kernels are faster than eager attention (docs/backends.md)."""
_WIDEST_FAST = {torch.float16: 256, torch.bfloat16: 256, torch.float32: 128}
"""Up to these head dimensions, that is: wider float32 products are not made on the tensor cores."""
_SHARE_OF_MEMORY = 1 / 16
"""Of a GPU's memory: eager attention keeps about ten matrices of weights until the double backward has run."""


def choose_backend(problem: Problem) -> str:
    """``triton`` on a GPU where it is faster or eager attention would not fit, ``reference`` everywhere else.

    ``reference`` has every order of derivatives and takes any sizes; ``triton`` has two orders.
    """
    q, k, v = problem.q, problem.k, problem.v
    widest = _WIDEST_FLOAT64 if q.dtype == torch.float64 else _WIDEST
    fits = 0 < q.shape[-1] <= widest and 0 < v.shape[-1] <= widest and min(q.numel(), k.numel()) > 0
    if not q.is_cuda or not fits or not _has_triton():
        return "reference"
    wide = max(q.shape[-1], v.shape[-1])
    if q.dtype in _LONG and min(q.shape[-2], k.shape[-2]) >= _LONG[q.dtype] and wide <= _WIDEST_FAST[q.dtype]:
        return "triton"
    weights = math.prod(q.shape[:3]) * k.shape[-2] * (8 if q.dtype == torch.float64 else 4)
    memory = torch.cuda.get_device_properties(q.device).total_memory
    return "triton" if weights > _SHARE_OF_MEMORY * memory else "reference"


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
