"""Complete Triton's interpreter: bfloat16 products, block pointers, library functions, a driver.

Everything here replaces attributes of Triton for the whole process: call it in a worker's child only.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from theria_lint.reasons import ReasonCode
from theria_lint.worker.shims.shim_log import ShimLog
from theria_lint.worker.triton_interpreter import bfloat16_arithmetic, bounds, externals


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


CAPABILITY = (8, 0)
"""The compute capability that the stand-in GPU has: the oldest one that bfloat16 kernels ask for."""

SHARED_MEMORY = 166912
"""Bytes of shared memory a block of such a GPU can have."""


def complete_interpreter(log: ShimLog) -> None:
    """Fill the gaps, as far as the installed Triton has them, and log their use; do nothing where Triton is missing."""
    try:
        import triton
        import triton.language as tl
        from triton.runtime import interpreter
    except ImportError:
        return
    triton.runtime.driver.set_active(FakeGpuDriver(log))
    builder = interpreter.InterpreterBuilder
    for name, place in (("create_masked_load", 1), ("create_masked_store", 2)):
        setattr(builder, name, _wrap_access_for_boolean_mask(getattr(builder, name), place, tl))
    bounds.check_kernel_accesses(interpreter)
    builder.create_dot = _wrap_dot_for_bfloat16(builder.create_dot, tl, log)
    bfloat16_arithmetic.compute_in_float32(interpreter, tl, log)
    externals.install_externals(interpreter, tl, log)
    interpreter._patch_lang_tensor = _wrap_patch_with_index(interpreter._patch_lang_tensor)
    interpreter._patch_lang = _patch_language_once(interpreter._patch_lang, tl)
    interpreter._loop_tensors = _make_loop_tensors(interpreter)
    interpreter.ASTTransformer.visit_For = _rewrite_range_loop
    if not hasattr(interpreter, "BlockPointerHandle"):
        _install_block_pointers(tl, log)


class FakeGpuDriver:
    """Answers Triton's questions about the GPU in the place of a driver that finds none."""

    launcher_cls = None
    utils = SimpleNamespace(
        get_device_properties=lambda device: {
            "max_shared_mem": SHARED_MEMORY,
            "multiprocessor_count": 108,
            "max_num_regs": 65536,
            "warpSize": 32,
            "sm_clock_rate": 1410000,
            "mem_clock_rate": 1593000,
            "mem_bus_width": 5120,
        }
    )

    def __init__(self, log: ShimLog) -> None:
        self._log = log

    @staticmethod
    def is_active() -> bool:
        """Whether this driver is the one to use."""
        return True

    def get_current_target(self) -> Any:
        """The GPU's backend, architecture and warp size."""
        from triton.backends.compiler import GPUTarget

        self._log.record_shim(ReasonCode.TRITON_DRIVER)
        return GPUTarget("cuda", 10 * CAPABILITY[0] + CAPABILITY[1], 32)

    def get_current_device(self) -> int:
        """The index of the current GPU."""
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        """The handle of the current stream."""
        return 0

    def set_current_device(self, device: int) -> None:
        """Accept any GPU."""

    def get_device_interface(self) -> Any:
        """The module of PyTorch that speaks for the GPU."""
        import torch

        return torch.cuda

    def get_active_torch_device(self) -> Any:
        """The device where tensors are."""
        import torch

        return torch.device("cpu")

    def get_benchmarker(self) -> Callable[..., Any]:
        """A benchmarker that runs nothing: what interpreted kernels take says nothing of compiled ones."""
        return lambda kernel, quantiles=None, **options: 1.0 if quantiles is None else [1.0] * len(quantiles)

    def get_empty_cache_for_benchmark(self) -> Any:
        """A tensor to overwrite between benchmarks."""
        import torch

        return torch.empty(1, dtype=torch.int32)

    def clear_cache(self, cache: Any) -> None:
        """There is nothing to clear."""


def _wrap_dot_for_bfloat16(create_dot: Callable[..., Any], tl: Any, log: ShimLog) -> Callable[..., Any]:
    """Products of bfloat16 operands, which the interpreter holds as their raw 16 bits."""

    def dot(self: Any, a: Any, b: Any, d: Any, *rest: Any) -> Any:
        if bfloat16_arithmetic.is_raw(a, tl) or bfloat16_arithmetic.is_raw(b, tl):
            log.record_shim(ReasonCode.BFLOAT16_ARITHMETIC)
        return create_dot(self, bfloat16_arithmetic.widen(a, tl), bfloat16_arithmetic.widen(b, tl), d, *rest)

    return dot


def _wrap_access_for_boolean_mask(access: Callable[..., Any], place: int, tl: Any) -> Callable[..., Any]:
    """A load or store that takes any mask that Triton makes.

    That is what it made of a comparison of numbers, integers too, and the bare array that block pointers have before
    Triton 3.9.
    """

    def run(self: Any, *args: Any) -> Any:
        mask = args[place]
        data = mask if isinstance(mask, np.ndarray) else mask.data
        if data is mask or data.dtype != np.bool_:
            args = (*args[:place], type(args[0])(data != 0, tl.int1), *args[place + 1 :])
        return access(self, *args)

    return run


def _wrap_patch_with_index(patch: Callable[..., None]) -> Callable[..., None]:
    """Scalars that serve as integers whatever shape their one number has: NumPy 2.5 converts none of shape (1,).

    Triton has minded that since 3.7.
    """

    def patch_tensor(tensor: Any, *rest: Any) -> None:
        patch(tensor, *rest)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    return patch_tensor


def _patch_language_once(patch: Callable[[Any], Any], tl: Any) -> Callable[[Any], Any]:
    """Replace ``triton.language`` for good when the first kernel runs.

    The interpreter does it anew for every launch and every helper that a kernel calls, a quarter of the time; what it
    restores in between is of use to a compiler only.
    """
    patched: list[Any] = []

    def patch_once(function: Any) -> Any:
        if not patched:
            patched.extend(patch(SimpleNamespace(__globals__={"tl": module})) for module in (tl, tl.core))
        return SimpleNamespace(restore=lambda: None)

    return patch_once


def _make_loop_tensors(interpreter: Any) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """The numbers of a loop as scalar tensors, which is what a compiled kernel loops over."""

    def tensors(numbers: Iterable[Any]) -> Iterator[Any]:
        for number in numbers:
            yield interpreter.interpreter_semantic.to_tensor(number, False)

    return tensors


def _rewrite_range_loop(self: ast.NodeTransformer, node: ast.For) -> ast.AST:
    """Rewrite ``for i in range(…)`` of an interpreted kernel, ``tl.range`` included, to loop over tensors."""
    self.generic_visit(node)
    if isinstance(node.iter, ast.Call):
        function = node.iter.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        if name == "range":
            node.iter = ast.Call(ast.Name("_loop_tensors", ast.Load()), [node.iter], [])
    return node


def _install_block_pointers(tl: Any, log: ShimLog) -> None:
    """Put back ``tl.make_block_ptr``, which Triton 3.9 has removed, by ordinary pointers and masks."""
    load, store = tl.load, tl.store

    def make_block_ptr(
        base: Any, shape: Any, strides: Any, offsets: Any, block_shape: Any, order: Any = None, _semantic: Any = None
    ) -> BlockPointer:
        log.record_shim(ReasonCode.BLOCK_POINTERS)
        return BlockPointer.from_kernel_arguments(base, shape, strides, offsets, block_shape)

    def advance(base: BlockPointer, offsets: Any, _semantic: Any = None) -> BlockPointer:
        return base.advance(offsets)

    def load_any(
        pointer: Any,
        mask: Any = None,
        other: Any = None,
        boundary_check: Any = (),
        padding_option: Any = "",
        _semantic: Any = None,
        **options: Any,
    ) -> Any:
        if isinstance(pointer, BlockPointer):
            pointer, mask = pointer.resolve_pointers(boundary_check)
            padding = str(getattr(padding_option, "value", padding_option))
            other = None if mask is None else (float("nan") if padding == "nan" else 0.0)
        return load(pointer, mask, other, _semantic=_semantic, **options)

    def store_any(
        pointer: Any, value: Any, mask: Any = None, boundary_check: Any = (), _semantic: Any = None, **options: Any
    ) -> Any:
        if isinstance(pointer, BlockPointer):
            pointer, mask = pointer.resolve_pointers(boundary_check)
        return store(pointer, value, mask, _semantic=_semantic, **options)

    for name, function in {
        "make_block_ptr": make_block_ptr,
        "advance": advance,
        "load": load_any,
        "store": store_any,
    }.items():
        setattr(function, tl.core.TRITON_BUILTIN, True)
        setattr(tl, name, function)
