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
from theria.attention.engine_protocol import Cotangents, Directions, Saved
from theria.attention.engines import load_engine
from theria.attention.functions import refuse_third_order


def attend_compiled(problem: Problem, backend: str, *, with_lse: bool = False) -> tuple[Tensor, Tensor]:
    """Attention by the engine of that name, (B, H, T, Dv), and its log-sum-exp, as `functions.attend`."""
    settings = with_seed(problem.settings, problem.q.device)
    outputs: tuple[Tensor, Tensor] = _attend(
        problem.q, problem.k, problem.v, problem.mask, *_flatten(settings), backend, with_lse
    )
    return outputs


def _flatten(settings: AttentionSettings) -> tuple[Any, ...]:
    """What operators take, of which ``_settings`` makes the settings again; seed and slopes are tensors."""
    s = settings
    return (s.seed, s.slopes, s.scale, s.is_causal, s.dropout_p, s.softcap, *s.window)


def _settings(
    seed: Tensor | None,
    slopes: Tensor | None,
    scale: float,
    is_causal: bool,
    dropout_p: float,
    softcap: float | None,
    left: int | None,
    right: int | None,
) -> AttentionSettings:
    return AttentionSettings(scale, is_causal, dropout_p, seed, (left, right), softcap, slopes)


@torch.library.custom_op("theria::attend", mutates_args=())
def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, seed: Tensor | None, slopes: Tensor | None,
    scale: float, is_causal: bool, dropout_p: float, softcap: float | None, left: int | None, right: int | None,
    backend: str, with_lse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    settings = _settings(seed, slopes, scale, is_causal, dropout_p, softcap, left, right)
    out, lse = load_engine(backend).forward(q, k, v, mask, settings)
    return out.contiguous(), lse.contiguous()


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty((*q.shape[:3], v.shape[3])), q.new_empty(q.shape[:3], dtype=accumulator(q.dtype))


@torch.library.custom_op("theria::attend_vjp", mutates_args=())
def _vjp(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, dout: Tensor, dlse: Tensor | None,
    seed: Tensor | None, slopes: Tensor | None,
    scale: float, is_causal: bool, dropout_p: float, softcap: float | None, left: int | None, right: int | None,
    backend: str, mask_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    settings = _settings(seed, slopes, scale, is_causal, dropout_p, softcap, left, right)
    gradients = load_engine(backend).vjp(
        Saved(q, k, v, mask, out, lse), Cotangents(dout, dlse), settings, mask_gradient=mask_gradient
    )
    return _without_none(*gradients)


@_vjp.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, dout: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_gradients(q, k, v, mask, mask_gradient=rest[-1])


@torch.library.custom_op("theria::attend_double_backward", mutates_args=())
def _double_backward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, dout: Tensor, dlse: Tensor | None,
    a: Tensor, b: Tensor, c: Tensor, e: Tensor | None, seed: Tensor | None, slopes: Tensor | None,
    scale: float, is_causal: bool, dropout_p: float, softcap: float | None, left: int | None, right: int | None,
    backend: str, mask_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    settings = _settings(seed, slopes, scale, is_causal, dropout_p, softcap, left, right)
    gradients, ddout, ddlse = load_engine(backend).double_backward(
        Saved(q, k, v, mask, out, lse), Cotangents(dout, dlse), Directions(a, b, c, e), settings,
        mask_gradient=mask_gradient,
    )  # fmt: skip
    return (*_without_none(*gradients), ddout.contiguous(), ddlse.contiguous())


@_double_backward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, dout: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    of_cotangents = (q.new_empty(out.shape), lse.new_empty(lse.shape))
    return (*_empty_gradients(q, k, v, mask, mask_gradient=rest[-1]), *of_cotangents)


def _without_none(dq: Tensor, dk: Tensor, dv: Tensor, dmask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An operator returns no None: a mask that has no gradient has an empty one."""
    return dq.contiguous(), dk.contiguous(), dv.contiguous(), dq.new_empty(0) if dmask is None else dmask.contiguous()


def _empty_gradients(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, mask_gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dmask = q.new_empty(0) if mask is None or not mask_gradient else mask.new_empty(mask.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), dmask


def _keep_attend(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.with_lse = inputs
    tensors, ctx.numbers = tensors[:6], tensors[6:]
    if not ctx.with_lse:
        ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, *output)


def _differentiate_attend(ctx: Any, dout: Tensor, dlse: Tensor | None) -> tuple[Any, ...]:
    q, k, v, mask, seed, slopes, out, lse = ctx.saved_tensors
    # their dependence on q, k, v and the mask is part of the formulas
    out, lse = out.detach(), lse.detach()  # theria: ignore[THL002]
    wanted = ctx.needs_input_grad[3]
    dlse = dlse if ctx.with_lse else None
    *gradients, dmask = _vjp(q, k, v, mask, out, lse, dout, dlse, seed, slopes, *ctx.numbers, wanted)
    return (*gradients, dmask if wanted else None, *[None] * (len(ctx.numbers) + 3))


def _keep_vjp(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.mask_gradient = inputs
    tensors, ctx.numbers = tensors[:10], tensors[10:]
    ctx.save_for_backward(*tensors)


def _differentiate_vjp(ctx: Any, a: Tensor | None, b: Tensor | None, c: Tensor | None, e: Tensor) -> tuple[Any, ...]:
    q, k, v, mask, out, lse, dout, dlse, seed, slopes = ctx.saved_tensors
    directions = [torch.zeros_like(x) if d is None else d for x, d in ((q, a), (k, b), (v, c))]
    wanted = ctx.needs_input_grad[3]
    *gradients, dmask, ddout, ddlse = _double_backward(
        q, k, v, mask, out, lse, dout, dlse, *directions, e if ctx.mask_gradient else None, seed, slopes,
        *ctx.numbers, wanted,
    )  # fmt: skip
    of_cotangents = (ddout, None if dlse is None else ddlse)
    return (*gradients, dmask if wanted else None, None, None, *of_cotangents, *[None] * (len(ctx.numbers) + 3))


def _keep_backend(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.backend = inputs[-2]


def _refuse(ctx: Any, *_: Any) -> NoReturn:
    refuse_third_order(ctx.backend)


_attend.register_autograd(_differentiate_attend, setup_context=_keep_attend)
_vjp.register_autograd(_differentiate_vjp, setup_context=_keep_vjp)
_double_backward.register_autograd(_refuse, setup_context=_keep_backend)
