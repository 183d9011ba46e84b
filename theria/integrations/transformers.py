"""Hugging Face transformers: ``attn_implementation="theria"``.

    import theria.integrations.transformers
    theria.integrations.transformers.register()
    model = AutoModel.from_config(config, attn_implementation="theria")

Masks, grouped heads, position biases, dropout and caches are those of the library's own ``sdpa``; what computes the
attention is a backend of ours, with caps of the scores (Gemma 2) and sinks (gpt-oss) where a model has them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from theria.attention.everywhere import Redirection
from theria.attention.registry import attention, check_backend


def register(name: str = "theria", *, backend: str = "auto") -> None:
    """Make ``attn_implementation=name`` compute attention by a backend, in every model of the library.

    Raises:
        ValueError: an unknown backend.
    """
    check_backend(backend)

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        softcap, sinks = options.pop("softcap", None), options.pop("s_aux", None)
        asked: Any = module
        if sinks is not None:
            # One token's queries would come as many tokens of the key heads, which have no sinks.
            key, value = (repeat_kv(x, query.shape[1] // x.shape[1]) for x in (key, value))
            asked = _WithoutGroups(module)
        with Redirection(partial(_attend, backend=backend, softcap=softcap, sinks=sinks)):
            output: tuple[Tensor, None] = sdpa_attention_forward(asked, query, key, value, attention_mask, **options)
        return output

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)


class _WithoutGroups:
    """What the library's ``sdpa`` asks of a module, where key heads are as many as query heads."""

    def __init__(self, module: nn.Module) -> None:
        self.is_causal = getattr(module, "is_causal", True)


def _attend(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """``F.scaled_dot_product_attention`` as the library calls it, and what else `attention` takes."""
    output: Tensor = attention(q, k, v, **options)
    return output
