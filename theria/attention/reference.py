"""The reference backend: attention written out in eager PyTorch, so that autograd is right to any order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from theria.attention.canonical_problem import Problem
from theria.attention.dtypes import accumulator, without_autocast
from theria.attention.eager import masked_logits, repeat_heads
from theria.attention.execution_record import record


def attend(problem: Problem) -> Tensor:
    """softmax(scale · q kᵀ + mask) v, (B, H, T, Dv); sums in float32 for half precision, zero for rows without keys."""
    record("reference")
    with without_autocast(problem.q):
        return _attend(problem)


def _attend(problem: Problem) -> Tensor:
    wide = accumulator(problem.q.dtype)
    heads = problem.q.shape[1]
    k, v = (repeat_heads(x.to(wide), heads) for x in (problem.k, problem.v))
    logits = masked_logits(problem.q.to(wide), k, problem.mask, problem.settings)
    if problem.mask is None and problem.settings.span[0] is None:  # then every query sees a key
        return (_drop(torch.softmax(logits, dim=-1), problem) @ v).to(problem.q.dtype)
    # softmax of a row of −∞ is NaN: give such rows finite logits, and take their weights away again
    empty = (logits == -math.inf).all(dim=-1, keepdim=True)
    weights = torch.softmax(logits.masked_fill(empty, 0.0), dim=-1).masked_fill(empty, 0.0)
    return (_drop(weights, problem) @ v).to(problem.q.dtype)


def _drop(weights: Tensor, problem: Problem) -> Tensor:
    p = problem.settings.dropout_p
    return torch.dropout(weights, p, train=True) if p else weights
