"""The learner of the MAML probes: one head of attention between trainable projections and a linear classifier.

There is no layer norm: PyTorch's third derivative of it was wrong when last checked (torch 2.13), and a probe must not
take its surroundings' faults for the attention's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from theria.maml.tasks import TaskShape
from theria.probes.point import draw

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes q, k, v of shape (B, 1, T, D) and returns (B, 1, T, D)."""

ATTENTION_PARAMETERS = {"q": "q_proj.weight", "k": "k_proj.weight", "v": "v_proj.weight"}
HEAD_PARAMETERS = ("classifier.weight", "classifier.bias")


class AttentionClassifier(nn.Module):
    """x (B, T, features) → q_proj, k_proj, v_proj → attention → mean over positions → classifier → (B, classes).

    Parameters are drawn from ``generator`` alone, in float64, and then cast to ``dtype``. The mean lets every row of
    the attention's output take part, so that a kernel which is wrong in one row is seen. ``attention_dtype`` is what
    q, k and v are cast to on the way in, and the output back from, so that a half-precision kernel can be probed inside
    a model whose parameters are float32.
    """

    def __init__(
        self,
        attention: Attention,
        shape: TaskShape,
        head_dim: int,
        generator: torch.Generator,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        attention_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.attention_dtype = attention_dtype or dtype
        self.q_proj = _linear(shape.features, head_dim, generator, dtype, device, gain=1.5)
        self.k_proj = _linear(shape.features, head_dim, generator, dtype, device, gain=1.5)
        self.v_proj = _linear(shape.features, head_dim, generator, dtype, device)
        self.classifier = _linear(head_dim, shape.classes, generator, dtype, device, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of sequences x (B, T, features)."""
        logits: Tensor = self.classifier(self.attend(x).mean(dim=1))
        return logits

    def attend(self, x: Tensor) -> Tensor:
        """The attention's output (B, T, head_dim) for sequences x, in x's dtype."""
        q, k, v = (
            projection(x).unsqueeze(1).to(self.attention_dtype)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = self.attention(q, k, v)
        if attended.shape != v.shape:
            raise ValueError(f"the attention returned shape {tuple(attended.shape)}: expected {tuple(v.shape)}")
        return attended.squeeze(1).to(x.dtype)


class _BlankLinear(nn.Linear):
    """A linear layer whose parameters hold whatever the memory held.

    nn.Linear's own initialisation would use the global generator, and ``skip_init`` imports sympy.
    """

    def reset_parameters(self) -> None:
        """Draw nothing."""


def _linear(
    inputs: int,
    outputs: int,
    generator: torch.Generator,
    dtype: torch.dtype,
    device: torch.device | str,
    *,
    bias: bool = False,
    gain: float = 1.0,
) -> nn.Linear:
    """A linear layer drawn from the generator alone.

    ``gain`` above 1 for q and k keeps the softmax away from uniform, where second derivatives are small.
    """
    layer = _BlankLinear(inputs, outputs, bias=bias, dtype=dtype, device=torch.device(device))
    with torch.no_grad():  # theria: ignore[THL001]
        layer.weight.copy_(draw((outputs, inputs), generator) * (gain / math.sqrt(inputs)))
        if bias:
            layer.bias.zero_()
    return layer
