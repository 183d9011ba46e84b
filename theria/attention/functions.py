"""An engine's four computations tied together as autograd Functions, right to second order and loud at the third.

    Attention          backward → Vjp               jvp → Jvp
    Vjp                backward → DoubleBackward    jvp → DoubleBackward + Vjp
    Jvp                backward → DoubleBackward + Vjp
    DoubleBackward     raises

The derivative of a gradient in a direction is a row of the Hessian, which is symmetric: so the double backward also is
the forward-mode derivative of the VJP, and the reverse-mode derivative of the JVP.
Every Function takes the saved ``out`` and ``lse`` as constants: their dependence on q, k, v and the mask is part of the
formulas. The log-sum-exp is an output with derivatives of its own where it is asked for; elsewhere it has no cotangent,
which is None.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._functorch.utils import unwrap_dead_wrappers
from torch.autograd import Function, forward_ad

from theria.attention.canonical_problem import AttentionSettings, Problem
from theria.attention.dropout import with_seed
from theria.attention.dtypes import without_autocast
from theria.attention.engine_protocol import Cotangents, Directions, Engine, Saved
from theria.attention.vmap import fold, unfold

_Outputs = tuple[Tensor | None, ...]


class DerivativeOrderError(RuntimeError):
    """A derivative was asked for that the backend does not have."""


def attend(problem: Problem, engine: Engine, *, with_lse: bool = False) -> tuple[Tensor, Tensor]:
    """Attention by the engine, (B, H, T, Dv), and its log-sum-exp (B, H, T), in the graph of the problem's tensors.

    The log-sum-exp is differentiable ``with_lse`` alone.
    """
    settings = with_seed(problem.settings, problem.q.device)
    outputs: tuple[Tensor, Tensor] = _apply(
        Attention, problem.q, problem.k, problem.v, problem.mask, settings, engine, with_lse
    )
    return outputs


class Attention(Function):
    """(q, k, v, mask) → (out, lse)."""

    @staticmethod
    def forward(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        settings: AttentionSettings,
        engine: Engine,
        with_lse: bool,
    ) -> tuple[Tensor, Tensor]:
        """See ``Engine.forward``."""
        with without_autocast(q):
            return engine.forward(q, k, v, mask, settings)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep inputs and outputs: the weights are rebuilt from them."""
        q, k, v, mask, ctx.settings, ctx.engine, ctx.with_lse = inputs
        if not ctx.with_lse:
            ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # no zeros for the log-sum-exp where nobody reads it
        _save(ctx, q, k, v, mask, *output)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The VJP, itself differentiable."""
        saved = _constants(ctx.saved_tensors)
        dout, dlse = cotangents
        if dout is None:
            dout = torch.zeros_like(ctx.saved_tensors[4])
        gradients = _apply(Vjp, *saved, dout, dlse, ctx.settings, ctx.engine, ctx.needs_input_grad[3])
        return (*gradients, None, None, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The JVP, itself differentiable in reverse mode."""
        saved = _constants(ctx.saved_tensors)
        out_dot, lse_dot = _apply(
            Jvp, *saved, *_directions(saved, tangents[:4]), ctx.settings, ctx.engine, ctx.with_lse
        )
        return out_dot, lse_dot if ctx.with_lse else None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[_Outputs, tuple[int | None, ...]]:
        """The mapped dimension becomes part of the batch."""
        if args[4].dropout_p:
            raise ValueError(
                f"dropout_p={args[4].dropout_p} under vmap: backend={args[5].name!r} cannot tell whether the weights "
                "dropped are the same for all that is mapped, pass backend='reference'"
            )
        tensors, _ = fold(info.batch_size, in_dims[:4], args[:4], keep_mask=False)
        return unfold(info.batch_size, _apply(Attention, *tensors, *args[4:]))


class Vjp(Function):
    """(q, k, v, mask, out, lse, dout, dlse) → gradients of (q, k, v, mask)."""

    @staticmethod
    def forward(*args: Any) -> _Outputs:
        """See ``Engine.vjp``."""
        *tensors, settings, engine, mask_gradient = args
        with without_autocast(tensors[0]):
            outputs: _Outputs = engine.vjp(
                Saved(*tensors[:6]), Cotangents(*tensors[6:]), settings, mask_gradient=mask_gradient
            )
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: _Outputs) -> None:
        """Keep the inputs."""
        *tensors, ctx.settings, ctx.engine, ctx.mask_gradient = inputs
        _save(ctx, *tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The double backward."""
        tensors = _constants(ctx.saved_tensors)
        *gradients, ddout, ddlse = _apply(
            DoubleBackward,
            *tensors,
            *_directions(tensors, cotangents),
            ctx.settings,
            ctx.engine,
            ctx.needs_input_grad[3],
        )
        return (*gradients, None, None, ddout, None if tensors[7] is None else ddlse, None, None, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Hessian times the tangents of (q, k, v, mask), and the VJP of the tangents of dout and dlse."""
        tensors = _constants(ctx.saved_tensors)
        common = (ctx.settings, ctx.engine, ctx.mask_gradient)
        *outputs, _, _ = _apply(DoubleBackward, *tensors, *_directions(tensors, tangents[:4]), *common)
        dout_dot, dlse_dot = tangents[6:8]
        if dout_dot is None and dlse_dot is None:
            return tuple(outputs)
        dout = tensors[6]
        if dout_dot is None and dout is not None:
            dout_dot = torch.zeros_like(dout)
        return tuple(map(_add, outputs, _apply(Vjp, *tensors[:6], dout_dot, dlse_dot, *common)))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[_Outputs, tuple[int | None, ...]]:
        """The mapped dimension becomes part of the batch."""
        tensors, mask_batch = fold(info.batch_size, in_dims[:8], args[:8], keep_mask=args[-1])
        return unfold(info.batch_size, _apply(Vjp, *tensors, *args[8:]), mask_at=3, mask_batch=mask_batch)


class Jvp(Function):
    """(q, k, v, mask, out, lse, tangents of q, k, v, mask) → the tangents of (out, lse)."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, Tensor]:
        """See ``Engine.jvp``."""
        *tensors, settings, engine, _ = args
        with without_autocast(tensors[0]):
            tangents: tuple[Tensor, Tensor] = engine.jvp(Saved(*tensors[:6]), Directions(*tensors[6:]), settings)
        return tangents

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep the inputs."""
        *tensors, ctx.settings, ctx.engine, ctx.with_lse = inputs
        if not ctx.with_lse:
            ctx.mark_non_differentiable(output[1])
        _save(ctx, *tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of ⟨cotangents, (Ȯ, l̇)⟩: the double backward for the inputs, the VJP for the tangents."""
        tensors = _constants(ctx.saved_tensors)
        saved, directions = tensors[:6], tensors[6:]
        given = (cotangents[0], cotangents[1] if ctx.with_lse else None)
        common = (ctx.settings, ctx.engine)
        *gradients, _, _ = _apply(DoubleBackward, *saved, *given, *directions, *common, ctx.needs_input_grad[3])
        of_tangents = _apply(Vjp, *saved, *given, *common, directions[3] is not None and ctx.needs_input_grad[9])
        return (*gradients, None, None, *of_tangents, None, None, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> NoReturn:
        """Forward over forward mode is not derived."""
        raise DerivativeOrderError(
            f"backend={ctx.engine.name!r} has no forward-mode derivative of its forward-mode derivative: nest jacfwd "
            "over jacrev instead, or use backend='reference', which has every order"
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[_Outputs, tuple[int | None, ...]]:
        """The mapped dimension becomes part of the batch."""
        tensors, _ = fold(info.batch_size, in_dims[:10], args[:10], keep_mask=args[9] is not None)
        return unfold(info.batch_size, _apply(Jvp, *tensors, *args[10:]))


class DoubleBackward(Function):
    """(q, k, v, mask, out, lse, dout, dlse, A, B, C, E) → second-order gradients of (q, k, v, mask, dout, dlse)."""

    @staticmethod
    def forward(*args: Any) -> _Outputs:
        """See ``Engine.double_backward``."""
        *tensors, settings, engine, mask_gradient = args
        with without_autocast(tensors[0]):
            gradients, *of_cotangents = engine.double_backward(
                Saved(*tensors[:6]),
                Cotangents(*tensors[6:8]),
                Directions(*tensors[8:]),
                settings,
                mask_gradient=mask_gradient,
            )
        return (*gradients, *of_cotangents)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: _Outputs) -> None:
        """Keep the name for the message."""
        ctx.engine = inputs[-2]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> NoReturn:
        """A real backward that leads to every input: autograd cannot skip it as it skips an error node."""
        refuse_third_order(ctx.engine.name)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> NoReturn:
        """The same in forward mode."""
        refuse_third_order(ctx.engine.name)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[_Outputs, tuple[int | None, ...]]:
        """The mapped dimension becomes part of the batch."""
        keep_mask = args[-1] or args[11] is not None
        tensors, mask_batch = fold(info.batch_size, in_dims[:12], args[:12], keep_mask=keep_mask)
        outputs = _apply(DoubleBackward, *tensors, *args[12:])
        return unfold(info.batch_size, outputs, mask_at=3, mask_batch=mask_batch)


def refuse_third_order(backend: str) -> NoReturn:
    """Raise DerivativeOrderError."""
    raise DerivativeOrderError(
        f"backend={backend!r} has first and second derivatives, and a third was asked for: "
        "use backend='reference', which has every order"
    )


def _apply(function: type[Function], *args: Any) -> Any:
    """Compute a Function, in the graph where anything records one: that takes longer than to launch a kernel."""
    if not _is_recording():
        return function.forward(*args)
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
        return function.apply(*args)  # type: ignore[no-untyped-call]
    # All that `Function.apply` does besides is to bind the arguments to a signature, which takes as long as the rest.
    return super(Function, function).apply(*unwrap_dead_wrappers(args))  # type: ignore[misc]


def _is_recording() -> bool:
    """Whether a graph, a tangent, a transform of torch.func or a compiler follows what is computed."""
    return (
        torch.is_grad_enabled()
        or forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
        or torch.compiler.is_compiling()
    )


def _save(ctx: Any, *tensors: Tensor | None) -> None:
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _constants(saved: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """The saved tensors, ``out`` and ``lse`` cut from their graph: a path through them would count twice."""
    tensors = list(saved)
    if not _is_recording():
        return tensors
    for i in (4, 5):
        out = tensors[i]
        tensors[i] = None if out is None else out.detach()  # theria: ignore[THL002]
    return tensors


def _directions(saved: list[Tensor | None], given: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """Zeros for what has no direction; None for a mask that has none."""
    directions: list[Tensor | None] = [
        torch.zeros_like(x) if d is None and x is not None else d for x, d in zip(saved[:3], given[:3], strict=True)
    ]
    return [*directions, given[3]]


def _add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return a if a is None or b is None else a + b
