"""Keeps interpreted kernels inside the tensors that they were given.

A GPU would return garbage for a pointer that lies outside, or nothing at all; the interpreter reads whatever stands
there, or ends the process. Arguments that were made up for a kernel are found out by this.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np


class OutsideError(IndexError):
    """A kernel uses memory that no tensor among its arguments owns."""


class Bounds:
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

    def hold(self, pointers: Any, mask: Any, width: int) -> bool:
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

_launched: list[Bounds] = []
"""The bounds of the launches that run now, the innermost last."""


def watch(interpreter: Any) -> None:
    """Makes every launch of Triton's interpreter check its pointers; ``interpreter``: that module of Triton."""
    executor, builder = interpreter.GridExecutor, interpreter.InterpreterBuilder
    executor.__call__ = _with_bounds(executor.__call__)
    for name, (verb, pointers, mask) in _ACCESSES.items():
        setattr(builder, name, _checked(getattr(builder, name), verb, pointers, mask))


def _with_bounds(launch: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if any(t.device.type != "cpu" for t in _tensors((*args, *kwargs.values()))):
            return launch(self, *args, **kwargs)  # the interpreter copies such tensors to memory of its own
        _launched.append(Bounds(_span(t) for t in _tensors((*args, *kwargs.values()))))
        try:
            return launch(self, *args, **kwargs)
        finally:
            _launched.pop()

    return run


def _checked(access: Callable[..., Any], verb: str, pointers: int, mask: int) -> Callable[..., Any]:
    def check(self: Any, *args: Any) -> Any:
        handle = args[pointers]
        width = max(1, handle.get_element_ty().primitive_bitwidth // 8)
        if _launched and not _launched[-1].hold(handle.data, args[mask].data, width):
            raise OutsideError(f"the kernel {verb} outside the tensors that it was given")
        return access(self, *args)

    return check


def _tensors(values: Iterable[Any]) -> Iterator[Any]:
    """The tensors among a kernel's arguments; a tensor descriptor has one as its base."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _tensors(value)
        elif hasattr(value, "untyped_storage"):
            yield value
        elif hasattr(value, "base"):
            yield from _tensors((value.base,))


def _span(tensor: Any) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
