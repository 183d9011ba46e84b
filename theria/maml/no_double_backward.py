"""The same attention without its double backward: the control of every attribution to attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from theria.maml.classifier import Attention


def sever_double_backward(attention: Attention) -> Attention:
    """Wrap an attention so that forward and VJP are its own, and the VJP's result is a constant.

    Whatever second-order signal a model loses when its attention is wrapped went through the attention's own double
    backward; what it keeps went around it, through the layers above and below. Differentiating the wrapped attention
    twice raises nothing, even where the attention itself would: its double backward is never asked for.
    """

    def severed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        output: Tensor = _Severed.apply(attention, q, k, v)  # type: ignore[no-untyped-call]
        return output

    return severed


class _Severed(torch.autograd.Function):
    """Keeps the attention's own graph aside, on leaves of its own, and returns detached results of it."""

    @staticmethod
    def forward(ctx: Any, attention: Attention, *inputs: Tensor) -> Tensor:
        with torch.enable_grad():  # theria: ignore[THL001]
            leaves = [
                value.detach().requires_grad_(needed)  # theria: ignore[THL006]
                for value, needed in zip(inputs, ctx.needs_input_grad[1:], strict=True)
            ]
            output = attention(*leaves)
        # Plain attributes, not save_for_backward: the leaves are neither inputs nor outputs of this Function.
        ctx.leaves, ctx.output = leaves, output
        return output.detach()  # theria: ignore[THL002]

    @staticmethod
    def backward(ctx: FunctionCtx, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        leaves: list[Tensor] = ctx.leaves  # type: ignore[attr-defined]
        output: Tensor = ctx.output  # type: ignore[attr-defined]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        if not output.requires_grad:
            return (None,) * (1 + len(leaves))
        # The graph is kept: an unrolled loop comes through here once for the inner and once for the outer gradient.
        # The product stands for a cotangent given to autograd.grad, which imports sympy to check that one.
        with torch.enable_grad():  # theria: ignore[THL001]
            loss = (output * cotangents[0].detach()).sum()  # theria: ignore[THL002]
        found = torch.autograd.grad(
            loss, wanted, retain_graph=True, create_graph=False, allow_unused=True
        )  # theria: ignore[THL006]
        gradients = iter(found)
        return (None, *(next(gradients) if leaf.requires_grad else None for leaf in leaves))
