"""Lets memory that nobody has written be seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_UNWRITTEN = frozenset(
    {torch.empty, torch.empty_like, torch.empty_strided, torch.Tensor.new_empty, torch.Tensor.new_empty_strided}
)


class Filled(TorchFunctionMode):
    """A context in which new tensors that nobody has written yet hold one number.

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
            made.detach().fill_(self._number)
        return made
