"""The three backends by name."""

from __future__ import annotations

import torch
from torch import Tensor

from theria.attention import reference
from theria.attention.auto_backend import choose_backend
from theria.attention.canonical_problem import Problem, Window, canonical
from theria.attention.engines import load_engine

AUTO = "auto"
"""What is given for a backend to have it chosen by `choose_backend`."""


def backend_names() -> tuple[str, ...]:
    """The backends; ``attention(backend=…)`` takes ``"auto"`` too."""
    return ("reference", "custom", "triton")


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
) -> Tensor:
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

    Raises:
        ValueError: an argument that does not fit, or that this backend does not support.
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
    )
    if backend == AUTO:
        backend = choose_backend(problem)
    return _attend(problem, backend).reshape(problem.output_shape)


def check_backend(name: str) -> None:
    """Raise ValueError for what ``attention(backend=…)`` does not take."""
    if name != AUTO and name not in backend_names():
        raise ValueError(f"backend={name!r} is unknown: the backends are {', '.join(backend_names())}, or 'auto'")


def _attend(problem: Problem, backend: str) -> Tensor:
    if backend == "reference":
        return reference.attend(problem)
    if torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active():  # which refuse operators
        from theria.attention.compiled_operators import attend_compiled

        return attend_compiled(problem, backend)
    from theria.attention.functions import attend

    return attend(problem, load_engine(backend))
