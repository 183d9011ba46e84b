"""The reference backend: attention written out in eager PyTorch, so that autograd is right to any order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from theria.attention.canonical_problem import Problem
from theria.attention.dtypes import accumulator, without_autocast
from theria.attention.eager import masked_logits, repeat_heads
from theria.attention.execution_record import record


def attend(problem: Problem, *, with_lse: bool = False) -> tuple[Tensor, Tensor | None]:
    """softmax(scale · q kᵀ + mask) v, (B, H, T, Dv); sums in float32 for half precision, zero for rows without keys.

    Asked for it, the log-sum-exp of the rows too, (B, H, T), −∞ for those without keys.
    """
    record("reference")
    with without_autocast(problem.q):
        return _attend(problem, with_lse)


def _attend(problem: Problem, with_lse: bool) -> tuple[Tensor, Tensor | None]:
    wide = accumulator(problem.q.dtype)
    heads = problem.q.shape[1]
    k, v = (repeat_heads(x.to(wide), heads) for x in (problem.k, problem.v))
    logits = masked_logits(problem.q.to(wide), k, problem.mask, problem.settings)
    empty = None
    if problem.mask is not None or problem.settings.span[0] is not None or not logits.shape[-1]:
        # softmax of a row of −∞ is NaN: give such rows finite logits, and take their weights away again
        empty = (logits == -math.inf).all(dim=-1, keepdim=True)
        logits = logits.masked_fill(empty, 0.0)
    weights = torch.softmax(logits, dim=-1)
    lse = torch.logsumexp(logits, dim=-1) if with_lse else None
    if empty is not None:
        weights = weights.masked_fill(empty, 0.0)
        lse = None if lse is None else lse.masked_fill(empty.squeeze(-1), -math.inf)
    return (_drop(weights, problem) @ v).to(problem.q.dtype), lse


def _drop(weights: Tensor, problem: Problem) -> Tensor:
    p = problem.settings.dropout_p
    return torch.dropout(weights, p, train=True) if p else weights
