"""Check that interpreted kernels access only memory of the tensors that they were given.

A GPU would return garbage for a pointer that lies outside, or nothing at all; the interpreter reads whatever stands
there, or ends the process. Guessed arguments that do not fit a kernel are found out by this.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from theria_lint.reasons import CodedError, ReasonCode


class OutsideError(CodedError, IndexError):
    """A kernel uses memory that no tensor among its arguments owns."""


class MemoryBounds:
    """The memory that the tensors of one launch own, as disjoint spans of addresses, sorted."""

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        """``spans``: first address and the one after the last, in bytes; they may overlap."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(spans):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        self._starts = [start for start, _ in merged]
        self._ends = [end for _, end in merged]

    def holds_pointers(self, pointers: Any, mask: Any, width: int) -> bool:
        """Whether all pointers (an array of addresses) under a mask point at ``width`` bytes that are owned."""
        pointers, mask = np.broadcast_arrays(pointers, mask)
        used = pointers[mask]
        if not used.size:
            return True
        lowest, highest = int(used.min()), int(used.max())
        place = bisect_right(self._starts, lowest) - 1
        if place >= 0 and highest + width <= self._ends[place]:
            return True
        places = np.searchsorted(np.asarray(self._starts, dtype=np.uint64), used, side="right") - 1
        if not self._starts or (places < 0).any():
            return False
        return bool((used + np.uint64(width) <= np.asarray(self._ends, dtype=np.uint64)[places]).all())


_ACCESSES = {
    "create_masked_load": ("reads", 0, 1),
    "create_masked_store": ("writes", 0, 2),
    "create_atomic_rmw": ("writes", 1, 3),
}
"""What the interpreter does to memory: the verb, and where the pointers and the mask stand among the arguments."""


def check_kernel_accesses(interpreter: Any) -> None:
    """Make every launch of Triton's interpreter check its pointers; ``interpreter``: that module of Triton."""
    launched: list[MemoryBounds] = []  # of the launches that run now, the innermost last
    executor, builder = interpreter.GridExecutor, interpreter.InterpreterBuilder
    executor.__call__ = _wrap_launch_with_bounds(executor.__call__, launched)
    for name, (verb, pointers, mask) in _ACCESSES.items():
        setattr(builder, name, _wrap_access_with_check(getattr(builder, name), launched, verb, pointers, mask))


def _wrap_launch_with_bounds(launch: Callable[..., Any], launched: list[MemoryBounds]) -> Callable[..., Any]:
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if any(t.device.type != "cpu" for t in _list_tensor_arguments((*args, *kwargs.values()))):
            return launch(self, *args, **kwargs)  # the interpreter copies such tensors to memory of its own
        launched.append(MemoryBounds(_find_storage_span(t) for t in _list_tensor_arguments((*args, *kwargs.values()))))
        try:
            return launch(self, *args, **kwargs)
        finally:
            launched.pop()

    return run


def _wrap_access_with_check(
    access: Callable[..., Any], launched: Sequence[MemoryBounds], verb: str, pointers: int, mask: int
) -> Callable[..., Any]:
    def check(self: Any, *args: Any) -> Any:
        handle = args[pointers]
        width = max(1, handle.get_element_ty().primitive_bitwidth // 8)
        if launched and not launched[-1].holds_pointers(handle.data, args[mask].data, width):
            raise OutsideError(ReasonCode.OUTSIDE_TENSORS, access=verb)
        return access(self, *args)

    return check


def _list_tensor_arguments(values: Iterable[Any]) -> Iterator[Any]:
    """The tensors among a kernel's arguments; a tensor descriptor has one as its base."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _list_tensor_arguments(value)
        elif hasattr(value, "untyped_storage"):
            yield value
        elif hasattr(value, "base"):
            yield from _list_tensor_arguments((value.base,))


def _find_storage_span(tensor: Any) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()


_UNWRITTEN = frozenset(
    {torch.empty, torch.empty_like, torch.empty_strided, torch.Tensor.new_empty, torch.Tensor.new_empty_strided}
)


_CHECKED_DEVICE = "cpu"
"""The device where `bounds` sees whatever a kernel reads beyond its tensors: elsewhere it reads what stands there."""

_LEAST, _MOST = 1 << 14, 1 << 22
"""How many numbers stand beyond the end of a tensor."""

_MARGIN_FACTOR = 64
"""How often a tensor has to fit into its margin: one that lacks an axis is read as if it had it."""


class FilledMemory(TorchFunctionMode):
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
        """Call the function, and fill what it has made if that is its only job."""
        made = function(*arguments, **(named or {}))
        if function in _UNWRITTEN and made.is_floating_point():
            if made.device.type != _CHECKED_DEVICE:
                return make_with_margin(made, self._number)
            made.detach().fill_(self._number)
        if function is torch.Tensor.clone and made.device.type != _CHECKED_DEVICE and made.is_floating_point():
            return made if made.requires_grad else make_with_margin(made, self._number).copy_(made)
        return made


def make_with_margin(made: Tensor, number: float) -> Tensor:
    """A tensor with another's shape, strides and dtype that holds a number, in storage that goes on with it."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(made.shape, made.stride(), strict=True))
    extent = extent if made.numel() else 0
    held = torch.full(
        (extent + min(max(_LEAST, _MARGIN_FACTOR * extent), _MOST),), number, dtype=made.dtype, device=made.device
    )
    tensor = torch.empty(0, dtype=made.dtype, device=made.device)
    tensor.set_(held.untyped_storage(), 0, made.shape, made.stride())
    return tensor.requires_grad_(made.requires_grad)
