"""bfloat16 arithmetic for Triton's interpreter, which holds such numbers as their raw 16 bits and computes with those.

Every operation on bfloat16 is done in float32 and rounded once, as a GPU does it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from theria_lint.reasons import ReasonCode
from theria_lint.worker.shims.shim_log import ShimLog

_ARITHMETIC = re.compile(
    r"create_(f(add|sub|mul|div|rem|neg|abs|ma|loor)|fcmp\w+|(min|max)(imum|num)f|clampf|ceil|erf|precise_\w+"
    r"|exp2?|log2?|sin|cos|r?sqrt)"
)
"""The names of the builder's operations on floating-point numbers: those that only move them around are right."""

_ROUNDING_BIAS = 0x7FFF


def compute_in_float32(interpreter: Any, tl: Any, log: ShimLog) -> None:
    """Put the interpreter's operations right, for the whole process, and log that they are used."""
    builder = interpreter.InterpreterBuilder
    for name in [name for name in dir(builder) if _ARITHMETIC.fullmatch(name)]:
        setattr(builder, name, _widened(getattr(builder, name), tl, log))
    builder.cast_impl = _through_float32(builder.cast_impl, tl)
    builder.create_fp_to_fp = _rounded(builder.create_fp_to_fp, tl)
    for reduction in (interpreter.ReduceOps, interpreter.ScanOps):
        reduction.apply_impl = _over_float32(reduction.apply_impl, tl, log)


def widen(handle: Any, tl: Any) -> Any:
    """A handle's bfloat16 numbers as float32; any other handle as it is."""
    if not is_raw(handle, tl):
        return handle
    data = np.asarray(handle.data)
    return type(handle)((data.astype(np.uint32) << 16).view(np.float32), tl.float32)


def is_raw(value: Any, tl: Any) -> bool:
    """Whether a value is a handle of bfloat16 numbers, held as their bits."""
    dtype, data = getattr(value, "dtype", None), getattr(value, "data", None)
    scalar = getattr(dtype, "scalar", None)
    return scalar == tl.bfloat16 and getattr(data, "dtype", None) == np.uint16


def _narrow(handle: Any, tl: Any) -> Any:
    """A handle's float32 numbers rounded to the nearest bfloat16, ties to even; any other handle as it is."""
    if getattr(getattr(handle, "dtype", None), "scalar", None) != tl.float32:
        return handle
    numbers = np.asarray(handle.data, dtype=np.float32)
    bits = numbers.view(np.uint32)
    rounded = ((bits + _ROUNDING_BIAS + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    quiet = ((bits >> 16) | 0x40).astype(np.uint16)  # adding to the bits of a NaN could make it infinite
    return type(handle)(np.where(np.isnan(numbers), quiet, rounded), tl.bfloat16)


def _widened(operation: Callable[..., Any], tl: Any, log: ShimLog) -> Callable[..., Any]:
    @functools.wraps(operation)
    def compute(self: Any, *operands: Any, **options: Any) -> Any:
        if not any(is_raw(operand, tl) for operand in operands):
            return operation(self, *operands, **options)
        log.record_shim(ReasonCode.BFLOAT16_ARITHMETIC)
        return _narrow(operation(self, *(widen(operand, tl) for operand in operands), **options), tl)

    return compute


def _through_float32(cast: Callable[..., Any], tl: Any) -> Callable[..., Any]:
    """Casts to and from bfloat16: the interpreter makes those of other types of the bits, and drops digits."""

    def cast_impl(self: Any, source: Any, wanted: Any) -> Any:
        if is_raw(source, tl) and wanted.scalar not in (tl.float32, tl.bfloat16):
            source = widen(source, tl)
        elif wanted.scalar == tl.bfloat16 and source.dtype.scalar != tl.bfloat16:
            return _narrow(source if source.dtype.scalar == tl.float32 else cast(self, source, tl.float32), tl)
        return cast(self, source, wanted)

    return cast_impl


def _rounded(convert: Callable[..., Any], tl: Any) -> Callable[..., Any]:
    """A cast of float32 to bfloat16 that rounds to nearest, unless the kernel asks for another rounding."""

    def create_fp_to_fp(self: Any, source: Any, wanted: Any, mode: Any) -> Any:
        nearest = wanted.scalar == tl.bfloat16 and getattr(mode, "name", "RTNE") == "RTNE"
        if nearest and source.dtype.scalar == tl.float32:
            return _narrow(source, tl)
        return convert(self, source, wanted, mode)

    return create_fp_to_fp


def _over_float32(apply: Callable[..., Any], tl: Any, log: ShimLog) -> Callable[..., Any]:
    """Sums, maxima and scans."""

    def apply_impl(self: Any, given: Any) -> Any:
        tensors = given if isinstance(given, tuple) else (given,)
        if not any(is_raw(tensor.handle, tl) for tensor in tensors):
            return apply(self, given)
        log.record_shim(ReasonCode.BFLOAT16_ARITHMETIC)
        wide = tuple(
            self.to_tensor(widen(t.handle, tl).data, tl.float32) if is_raw(t.handle, tl) else t for t in tensors
        )
        found = apply(self, wide if isinstance(given, tuple) else wide[0])
        return _each(found, lambda t: self.to_tensor(_narrow(t.handle, tl).data, tl.bfloat16) if _is_wide(t) else t)

    def _is_wide(tensor: Any) -> bool:
        return bool(getattr(tensor, "dtype", None) is not None and tensor.handle.dtype.scalar == tl.float32)

    return apply_impl


def _each(found: Any, change: Callable[[Any], Any]) -> Any:
    return type(found)(change(item) for item in found) if isinstance(found, list | tuple) else change(found)
