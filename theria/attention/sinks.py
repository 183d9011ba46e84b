"""Attention sinks: a learned logit for each head, which joins the sum that the softmax divides by.

A sink takes weight and has no value (Xiao et al., "Efficient streaming language models with attention sinks", 2024; as
a learned logit in gpt-oss). So it multiplies what a row has without it by σ(lse − sink), and all its derivatives are
those of this factor and of the log-sum-exp.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from theria.attention.canonical_problem import check_per_head
from theria.attention.dtypes import without_autocast


def check_sinks(sinks: Tensor, q: Tensor) -> None:
    """Raise ValueError for what is no logit for each head of the canonical q."""
    check_per_head("sinks", sinks, q)
    if sinks.shape != q.shape[1:2]:
        raise ValueError(f"sinks has shape {tuple(sinks.shape)}: it has a logit for each head, {tuple(q.shape[1:2])}")


def join_sinks(out: Tensor, lse: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor]:
    """What (out, lse) become when the sinks (H,) join the rows' sums; a row without keys has its sink alone."""
    with without_autocast(out):
        sinks = sinks.to(lse.dtype)[:, None]
        share = torch.sigmoid(lse - sinks)
        out = (out.to(lse.dtype) * share.unsqueeze(-1)).to(out.dtype)
        return out, sinks - functional.logsigmoid(sinks - lse)
