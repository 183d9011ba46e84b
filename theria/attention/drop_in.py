"""A backend under the signature of ``torch.nn.functional.scaled_dot_product_attention``."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from theria.attention.registry import attention, check_backend


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
        ValueError: an unknown backend.
    """
    check_backend(backend)

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
        return attention(
            query,
            key,
            value,
            backend=backend,
            scale=scale,
            is_causal=is_causal,
            attn_mask=attn_mask,
            enable_gqa=enable_gqa,
            dropout_p=dropout_p,
        )

    return scaled_dot_product_attention
