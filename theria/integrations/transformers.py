"""Hugging Face transformers: ``attn_implementation="theria"``.

    import theria.integrations.transformers
    theria.integrations.transformers.register()
    model = AutoModel.from_config(config, attn_implementation="theria")

Masks, grouped heads, position biases, dropout and caches are those of the library's own ``sdpa``; what computes the
attention is a backend of ours.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from theria.attention.drop_in import sdpa
from theria.attention.everywhere import Redirection

UNSUPPORTED = ("softcap", "s_aux")
"""What some models pass and ``sdpa`` refuses or ignores: a cap of the logits, sinks."""


def register(name: str = "theria", *, backend: str = "auto") -> None:
    """Make ``attn_implementation=name`` compute attention by a backend, in every model that can be given ``sdpa``.

    Raises:
        ValueError: an unknown backend; when a model calls it, a cap of the logits or sinks, which no backend has.
    """
    attention = sdpa(backend)

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        for option in UNSUPPORTED:
            if options.get(option) is not None:
                raise ValueError(f"{type(module).__name__} passes {option}, which {name!r} has not: use 'eager' for it")
        with Redirection(attention):
            output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)
