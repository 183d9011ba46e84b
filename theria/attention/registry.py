"""The three backends by name."""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor

from theria.attention import reference
from theria.attention.alibi import apply_alibi
from theria.attention.auto_backend import choose_backend
from theria.attention.canonical_problem import Problem, Window, canonical
from theria.attention.engines import load_engine
from theria.attention.sinks import check_sinks, join_sinks

AUTO = "auto"
"""What is given for a backend to have it chosen by `choose_backend`."""


def backend_names() -> tuple[str, ...]:
    """The backends; ``attention(backend=…)`` takes ``"auto"`` too."""
    return ("reference", "custom", "triton")


class AttentionOptions(TypedDict, total=False):
    """What ``attention`` takes by name, but for ``return_lse``."""

    backend: str
    scale: float | None
    is_causal: bool
    attn_mask: Tensor | None
    enable_gqa: bool
    dropout_p: float
    window: Window
    softcap: float | None
    alibi_slopes: Tensor | None
    sinks: Tensor | None


@overload
def attention(
    q: Tensor, k: Tensor, v: Tensor, *, return_lse: Literal[False] = False, **options: Unpack[AttentionOptions]
) -> Tensor: ...


@overload
def attention(
    q: Tensor, k: Tensor, v: Tensor, *, return_lse: Literal[True], **options: Unpack[AttentionOptions]
) -> tuple[Tensor, Tensor]: ...


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    backend: str = "reference",
    scale: float | None = None,
    is_causal: bool = False,
    attn_mask: Tensor | None = None,
    enable_gqa: bool = False,
    dropout_p: float = 0.0,
    window: Window = (None, None),
    softcap: float | None = None,
    alibi_slopes: Tensor | None = None,
    sinks: Tensor | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale · q kᵀ + mask) v with first and second derivatives on every backend.

    Semantics of ``torch.nn.functional.scaled_dot_product_attention``; a row that may see no key gives zero, and zero
    derivatives. Sums are kept in float32 (float64 for float64). ``reference`` has derivatives of every order;
    the others raise ``DerivativeOrderError`` at the third.

    Args:
        q: (…, H, T, D), or (T, D).
        k: (…, Hk, M, D); batch dimensions broadcast.
        v: (…, Hk, M, Dv).
        backend: one of ``backend_names()``, or ``"auto"``: what suits device, dtype and sizes (`choose_backend`);
            ``executed_backends()`` tells which it was.
        scale: factor of the logits; 1/√D if None.
        is_causal: query t sees keys 0 … t.
        attn_mask: broadcasts to (…, H, T, M); boolean (True takes part) or additive and differentiable.
        enable_gqa: H may be a multiple of Hk, each key head serving H / Hk query heads in a row.
        dropout_p: the probability with which a weight is dropped; its seed is drawn from the device's generator, and is
            the same in every derivative.
        window: query t sees keys t − window[0] … t + window[1] alone; None is without end. With ``is_causal`` the
            second is 0.
        softcap: c makes c·tanh(scale · q kᵀ / c) of the scores, before the mask is added (Gemma 2; ``softcap`` of
            flash_attn); above 0.
        alibi_slopes: (H,), or (…, H) with q's batch dimensions; any floating dtype, differentiable. Adds
            −slope·|i + M − T − j| to the logit of query i and key j (ALiBi, aligned as flash_attn does). `triton`
            computes it in its kernels, and by a mask of (H × T × M) where derivatives for the slopes are wanted.
        sinks: (H,), any floating dtype, differentiable: a logit for each head, without mask or scale, that joins the
            sum that the softmax divides by (gpt-oss).
        return_lse: return the log-sum-exp of each row's logits too, sinks included.

    Returns:
        (…, H, T, Dv) in the dtype of q. With ``return_lse`` a pair: this, and (…, H, T) in float32 (float64 for
        float64), with first and second derivatives of its own; −∞ with zero derivatives for a row that sees no key.

    Raises:
        ValueError: an argument that does not fit, or that this backend does not support.
        TypeError: a scale or a cap that is a tensor.
    """
    check_backend(backend)
    problem = canonical(
        q,
        k,
        v,
        scale=scale,
        is_causal=is_causal,
        attn_mask=attn_mask,
        enable_gqa=enable_gqa,
        dropout_p=dropout_p,
        window=window,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
    )
    if sinks is not None:
        check_sinks(sinks, problem.q)
    if backend == AUTO:
        backend = choose_backend(problem)
    out, lse = _attend(apply_alibi(problem, backend), backend, with_lse=return_lse or sinks is not None)
    if sinks is not None:
        assert lse is not None
        out, lse = join_sinks(out, lse, sinks)
    if out.shape != problem.output_shape:  # a view is a node in the graph, and takes time of its own
        out = out.reshape(problem.output_shape)
    if not return_lse:
        return out
    assert lse is not None
    return out, lse.reshape(problem.output_shape[:-1])


def check_backend(name: str) -> None:
    """Raise ValueError for what ``attention(backend=…)`` does not take."""
    if name != AUTO and name not in backend_names():
        raise ValueError(f"backend={name!r} is unknown: the backends are {', '.join(backend_names())}, or 'auto'")


def _attend(problem: Problem, backend: str, *, with_lse: bool) -> tuple[Tensor, Tensor | None]:
    if backend == "reference":
        return reference.attend(problem, with_lse=with_lse)
    if torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active():  # which refuse operators
        from theria.attention.compiled_operators import attend_compiled

        return attend_compiled(problem, backend, with_lse=with_lse)
    from theria.attention.functions import attend

    return attend(problem, load_engine(backend), with_lse=with_lse)
