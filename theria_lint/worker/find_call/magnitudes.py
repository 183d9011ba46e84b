"""Multiply what a target is given: its inputs, its parameters, the gradient that its backward gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from theria.probes.point import copy_strided


@dataclass(frozen=True)
class Magnitudes:
    """By what each is multiplied; all are standard normal, or as a module makes its parameters, without.

    ``around``: the inputs lie around vectors of that magnitude instead, the so many-th ones; 0 for around zero.
    """

    inputs: float = 1.0
    around: int = 0
    parameters: float = 1.0
    gradient: float = 1.0

    def scale_input(self, name: str, tensor: Tensor, draw: Callable[[str, tuple[int, ...]], Tensor]) -> Tensor:
        """An input multiplied, or moved to where all positions have about the same large channels.

        What all keys have in common adds the same to all scores of a query: they are large, softmax is not saturated.
        """
        if self.inputs == 1:
            return tensor
        scaled = copy_strided(tensor)
        if not self.around:
            return scaled.mul_(self.inputs)
        common = draw(f"{name} around {self.around}", tuple(tensor.shape[-1:]))
        return scaled.div_(self.inputs).add_(common.to(tensor.dtype) * self.inputs)

    def scale_parameters(self, module: nn.Module | None) -> bool:
        """Multiply those of a module that has just been built; whether there was anything to do."""
        if module is None or self.parameters == 1:
            return False
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(self.parameters)
        return True
