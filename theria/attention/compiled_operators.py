"""Attention as operators that compilers keep whole, where the Functions of ``functions`` would break their graph.

The same computations with the same derivatives in reverse mode: Dynamo takes no Function that has a forward-mode
derivative. Results are contiguous, as compilers are told they are.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from theria.attention.canonical_problem import AttentionSettings, Problem
from theria.attention.dropout import with_seed
from theria.attention.dtypes import accumulator
from theria.attention.engine_protocol import Directions, Saved
from theria.attention.engines import load_engine
from theria.attention.functions import refuse_third_order


def attend_compiled(problem: Problem, backend: str) -> Tensor:
    """Attention by the engine of that name, (B, H, T, Dv)."""
    settings = with_seed(problem.settings, problem.q.device)
    out: Tensor = _attend(
        problem.q, problem.k, problem.v, problem.mask,
        settings.scale, settings.is_causal, settings.dropout_p, settings.seed,
        *settings.window, backend,
    )[0]  # fmt: skip
    return out


@torch.library.custom_op("theria::attend", mutates_args=())
def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None,
    scale: float, is_causal: bool, dropout_p: float, seed: Tensor | None,
    left: int | None, right: int | None, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    settings = AttentionSettings(scale, is_causal, dropout_p, seed, (left, right))
    out, lse = load_engine(backend).forward(q, k, v, mask, settings)
    return out.contiguous(), lse.contiguous()


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty((*q.shape[:3], v.shape[3])), q.new_empty(q.shape[:3], dtype=accumulator(q.dtype))


@torch.library.custom_op("theria::attend_vjp", mutates_args=())
def _vjp(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, dout: Tensor,
    scale: float, is_causal: bool, dropout_p: float, seed: Tensor | None,
    left: int | None, right: int | None, backend: str, mask_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    settings = AttentionSettings(scale, is_causal, dropout_p, seed, (left, right))
    gradients = load_engine(backend).vjp(Saved(q, k, v, mask, out, lse), dout, settings, mask_gradient=mask_gradient)
    return _without_none(*gradients)


@_vjp.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, dout: Tensor, *settings: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_gradients(q, k, v, mask, mask_gradient=settings[-1])


@torch.library.custom_op("theria::attend_double_backward", mutates_args=())
def _double_backward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, dout: Tensor,
    a: Tensor, b: Tensor, c: Tensor, e: Tensor | None,
    scale: float, is_causal: bool, dropout_p: float, seed: Tensor | None,
    left: int | None, right: int | None, backend: str, mask_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    settings = AttentionSettings(scale, is_causal, dropout_p, seed, (left, right))
    gradients, ddout = load_engine(backend).double_backward(
        Saved(q, k, v, mask, out, lse), dout, Directions(a, b, c, e), settings, mask_gradient=mask_gradient
    )
    return (*_without_none(*gradients), ddout.contiguous())


@_double_backward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, dout: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (*_empty_gradients(q, k, v, mask, mask_gradient=rest[-1]), q.new_empty(out.shape))


def _without_none(dq: Tensor, dk: Tensor, dv: Tensor, dmask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An operator returns no None: a mask that has no gradient has an empty one."""
    return dq.contiguous(), dk.contiguous(), dv.contiguous(), dq.new_empty(0) if dmask is None else dmask.contiguous()


def _empty_gradients(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, mask_gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dmask = q.new_empty(0) if mask is None or not mask_gradient else mask.new_empty(mask.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), dmask


def _keep_attend(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale, ctx.is_causal, ctx.dropout_p, seed, left, right, ctx.backend = inputs
    ctx.window = (left, right)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, *output, seed)


def _differentiate_attend(ctx: Any, dout: Tensor, _: Any) -> tuple[Any, ...]:
    q, k, v, mask, out, lse, seed = ctx.saved_tensors
    # their dependence on q, k, v and the mask is part of the formulas
    out, lse = out.detach(), lse.detach()  # theria: ignore[THL002]
    wanted = ctx.needs_input_grad[3]
    *gradients, dmask = _vjp(
        q, k, v, mask, out, lse, dout, ctx.scale, ctx.is_causal, ctx.dropout_p, seed, *ctx.window, ctx.backend, wanted
    )
    return (*gradients, dmask if wanted else None, *[None] * 7)


def _keep_vjp(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.scale, ctx.is_causal, ctx.dropout_p, seed, left, right, ctx.backend, ctx.mask_gradient = inputs
    ctx.window = (left, right)
    ctx.save_for_backward(*tensors, seed)


def _differentiate_vjp(ctx: Any, a: Tensor | None, b: Tensor | None, c: Tensor | None, e: Tensor) -> tuple[Any, ...]:
    q, k, v, mask, out, lse, dout, seed = ctx.saved_tensors
    directions = [torch.zeros_like(x) if d is None else d for x, d in ((q, a), (k, b), (v, c))]
    wanted = ctx.needs_input_grad[3]
    *gradients, dmask, ddout = _double_backward(
        q, k, v, mask, out, lse, dout, *directions, e if ctx.mask_gradient else None,
        ctx.scale, ctx.is_causal, ctx.dropout_p, seed, *ctx.window, ctx.backend, wanted,
    )  # fmt: skip
    return (*gradients, dmask if wanted else None, None, None, ddout, *[None] * 8)


def _keep_backend(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.backend = inputs[-2]


def _refuse(ctx: Any, *_: Any) -> NoReturn:
    refuse_third_order(ctx.backend)


_attend.register_autograd(_differentiate_attend, setup_context=_keep_attend)
_vjp.register_autograd(_differentiate_vjp, setup_context=_keep_vjp)
_double_backward.register_autograd(_refuse, setup_context=_keep_backend)
