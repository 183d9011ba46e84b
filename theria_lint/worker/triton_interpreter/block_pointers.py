"""Implement block pointers for Triton's interpreter: a tile of a tensor as ordinary pointers and a mask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class BlockPointer:
    """A tile of ``block_shape`` at ``offsets`` in a tensor of ``shape`` and ``strides`` (in elements) from ``base``."""

    base: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offsets: tuple[int, ...]
    block_shape: tuple[int, ...]

    @classmethod
    def from_kernel_arguments(cls, base: Any, shape: Any, strides: Any, offsets: Any, block_shape: Any) -> BlockPointer:
        """From what a kernel gives: numbers, constants and scalar tensors of the interpreter."""
        return cls(base, *(tuple(map(read_integer, values)) for values in (shape, strides, offsets, block_shape)))

    @property
    def dtype(self) -> Any:
        """The type of the pointers, which knows that of the elements."""
        return self.base.dtype

    @property
    def type(self) -> Any:
        """The same as ``dtype``: kernels read ``element_ty`` of either."""
        return self.base.dtype

    def advance(self, offsets: Iterable[Any]) -> BlockPointer:
        """The tile moved by some offsets."""
        moved = tuple(a + read_integer(b) for a, b in zip(self.offsets, offsets, strict=True))
        return replace(self, offsets=moved)

    def resolve_pointers(self, checked: Any) -> tuple[Any, Any]:
        """The pointers, and the mask of those inside the tensor along the checked axes; None where none is checked."""
        import triton.language as tl
        from triton.runtime.interpreter import TensorHandle

        axes = [read_integer(axis) for axis in _list_items(checked)]
        width = max(1, self.dtype.element_ty.primitive_bitwidth // 8)
        address = np.asarray(self.base.handle.data, dtype=np.uint64).reshape(-1)[0].astype(np.int64)
        mask = np.ones(self.block_shape, dtype=bool)
        offsets = np.zeros(self.block_shape, dtype=np.int64)
        for axis, size in enumerate(self.block_shape):
            steps = (self.offsets[axis] + np.arange(size, dtype=np.int64)).reshape(
                [-1 if other == axis else 1 for other in range(len(self.block_shape))]
            )
            offsets = offsets + steps * self.strides[axis]
            if axis in axes:
                mask = mask & (steps >= 0) & (steps < self.shape[axis])
        pointers = (address + offsets * width).astype(np.uint64)
        shape = list(self.block_shape)
        found = tl.tensor(TensorHandle(pointers, self.dtype), tl.block_type(self.dtype, shape))
        return found, tl.tensor(TensorHandle(mask, tl.int1), tl.block_type(tl.int1, shape)) if axes else None


def read_integer(value: Any) -> int:
    """An integer out of a number, a ``tl.constexpr`` or a scalar tensor of the interpreter."""
    handle = getattr(value, "handle", None)
    if handle is not None:
        return int(np.asarray(handle.data).reshape(-1)[0])
    return int(getattr(value, "value", value))


def _list_items(value: Any) -> list[Any]:
    value = getattr(value, "value", value)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, int) else list(value)
