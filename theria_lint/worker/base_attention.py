"""Supply the attention under a target, theria's backends or PyTorch's own, and count the calls that it answers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from theria.attention.drop_in import sdpa
from theria.probes.node_origin import TOOLS
from theria_lint.model import AS_IT_IS

TOOLS.append(str(Path(__file__).parent))

ORIGINAL_SDPA = torch.nn.functional.scaled_dot_product_attention
_ALIASES = {
    "softmax_scale": "scale",
    "sm_scale": "scale",
    "scaling": "scale",
    "causal": "is_causal",
    "mask": "attn_mask",
    "attention_mask": "attn_mask",
    "bias": "attn_mask",
    "attn_bias": "attn_mask",
    "dropout": "dropout_p",
}


def make_base_attention(backend: str) -> Callable[..., Tensor]:
    """Attention for wrappers to wrap: the arguments of scaled_dot_product_attention, under other usual names too."""
    function = sdpa(backend)

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        renamed = {_ALIASES.get(name, name): argument for name, argument in kwargs.items()}
        return function(query, key, value, *args, **renamed)

    return attention


class SdpaCounter:
    """Counts the calls of scaled_dot_product_attention by the code under it, and says who answers them.

    ``fused`` counts those that PyTorch gave to a kernel without a second derivative, or was told not to.
    """

    def __init__(self) -> None:
        """Until ``use_backend`` is called, PyTorch answers."""
        self.count = 0
        self.fused = 0
        self._answer: Callable[..., Tensor] = ORIGINAL_SDPA

    def use_backend(self, backend: str) -> None:
        """Let a backend answer, or PyTorch for ``self``."""
        self._answer = ORIGINAL_SDPA if backend == AS_IT_IS else sdpa(backend)

    def wrap_with_reference(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The same function with the reference backend answering while it runs."""

        def answered(*arguments: Tensor) -> Tensor:
            answer, self._answer = self._answer, sdpa("reference")
            try:
                return function(*arguments)
            finally:
                self._answer = answer

        return answered

    def replace_sdpa(self) -> None:
        """Put the counter in the place of the function in every module that holds it; for a process that ends soon."""

        def scaled_dot_product_attention(*args: Any, **kwargs: Any) -> Tensor:
            self.count += 1
            output = self._answer(*args, **kwargs)
            self.fused += _is_fused(output) or not _may_be_fused()
            return output

        for module in list(sys.modules.values()):
            names = [n for n, held in list(getattr(module, "__dict__", {}).items()) if held is ORIGINAL_SDPA]
            for name in names:
                if module.__name__ != __name__:
                    setattr(module, name, scaled_dot_product_attention)


def _is_fused(output: Tensor) -> bool:
    """Whether a fused kernel computed it: the math path is made of nodes for products and a softmax."""
    return output.grad_fn is not None and "ScaledDotProduct" in output.grad_fn.name()


def _may_be_fused() -> bool:
    """Whether a fused kernel is allowed where the call stands."""
    cuda: Any = torch.backends.cuda
    return bool(cuda.flash_sdp_enabled() or cuda.mem_efficient_sdp_enabled() or cuda.cudnn_sdp_enabled())
