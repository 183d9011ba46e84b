"""Lets memory be seen that nobody has written, or that stands beyond a tensor's end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_UNWRITTEN = frozenset(
    {torch.empty, torch.empty_like, torch.empty_strided, torch.Tensor.new_empty, torch.Tensor.new_empty_strided}
)


_CHECKED = "cpu"
"""The device where `bounds` sees whatever a kernel reads beyond its tensors: elsewhere it reads what stands there."""

_LEAST, _MOST = 1 << 14, 1 << 22
"""How many numbers stand beyond the end of a tensor."""

_TIMES = 64
"""How often a tensor has to fit into its margin: one that lacks an axis is read as if it had it."""


class Filled(TorchFunctionMode):
    """A context in which new tensors that nobody has written yet hold one number, and copies are followed by it.

    A finite one, where PyTorch's own deterministic mode writes NaN: many a kernel reads more than it has written and
    multiplies it by zero.
    """

    def __init__(self, number: float) -> None:
        super().__init__()
        self._number = number

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls the function, and fills what it has made if that is its only job."""
        made = function(*arguments, **(named or {}))
        if function in _UNWRITTEN and made.is_floating_point():
            if made.device.type != _CHECKED:
                return with_margin(made, self._number)
            made.detach().fill_(self._number)
        if function is torch.Tensor.clone and made.device.type != _CHECKED and made.is_floating_point():
            return made if made.requires_grad else with_margin(made, self._number).copy_(made)
        return made


def with_margin(made: Tensor, number: float) -> Tensor:
    """A tensor with another's shape, strides and dtype that holds a number, in storage that goes on with it."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(made.shape, made.stride(), strict=True))
    extent = extent if made.numel() else 0
    held = torch.full(
        (extent + min(max(_LEAST, _TIMES * extent), _MOST),), number, dtype=made.dtype, device=made.device
    )
    tensor = torch.empty(0, dtype=made.dtype, device=made.device)
    tensor.set_(held.untyped_storage(), 0, made.shape, made.stride())
    return tensor.requires_grad_(made.requires_grad)
