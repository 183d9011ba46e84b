"""A backend under the signature of ``torch.nn.functional.scaled_dot_product_attention``."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from theria.attention.registry import attention, backend_names


class ScaledDotProductAttention(Protocol):
    """The signature of ``torch.nn.functional.scaled_dot_product_attention``."""

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """See PyTorch's documentation."""


def sdpa(backend: str) -> ScaledDotProductAttention:
    """A callable to put in place of ``F.scaled_dot_product_attention``, computed by the named backend.

    Raises:
        ValueError: an unknown backend; when called, a ``dropout_p`` that is not zero.
    """
    if backend not in backend_names():
        raise ValueError(f"backend={backend!r} is unknown: the backends are {', '.join(backend_names())}")

    def scaled_dot_product_attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if dropout_p:
            raise ValueError(f"dropout_p={dropout_p}: no backend has dropout, pass dropout_p=0.0")
        return attention(
            query,
            key,
            value,
            backend=backend,
            scale=scale,
            is_causal=is_causal,
            attn_mask=attn_mask,
            enable_gqa=enable_gqa,
        )

    return scaled_dot_product_attention
