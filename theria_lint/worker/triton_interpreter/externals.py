"""Implement CUDA's math library and inline assembly for Triton's interpreter, with NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from theria_lint.reasons import CodedError, ReasonCode
from theria_lint.worker.shims.shim_log import ShimLog
from theria_lint.worker.triton_interpreter.ptx import UnknownAssemblyError, evaluate_assembly

_HINTS = ("griddepcontrol", "prefetch")
"""Instructions that say when to run and not what to compute: nothing is to be done for them."""


class TritonGapError(CodedError, NotImplementedError):
    """A kernel needs what only a GPU has, and nothing here stands in for."""


def install_externals(interpreter: Any, tl: Any, log: ShimLog) -> None:
    """Fill these gaps; ``interpreter`` and ``tl``: Triton's module of that name, and its language."""
    builder = interpreter.InterpreterBuilder
    builder.create_extern_elementwise = _make_extern_elementwise(interpreter, log)
    builder.create_inline_asm = _make_inline_assembly(interpreter, log)
    _install_library(interpreter, tl)


def _make_extern_elementwise(interpreter: Any, log: ShimLog) -> Callable[..., Any]:
    def call(self: Any, library: str, path: str, symbol: str, args: list[Any], result: Any, pure: bool) -> Any:
        function = LIBRARY.get(strip_symbol(symbol))
        if function is None:
            raise TritonGapError(ReasonCode.TRITON_GAP, "GPU", name=symbol)
        log.record_shim(ReasonCode.NUMPY_LIBRARY)
        return _compute_elementwise(interpreter, function, args, result)

    return call


def _install_library(interpreter: Any, tl: Any) -> None:
    """Let kernels call CUDA's math library: as such, and by the names that stand for that of any GPU.

    Those have no bodies, for a compiler replaces them; the interpreter would take the None that they return.
    """
    try:
        from triton.language.extra import libdevice as stubs
        from triton.language.extra.cuda import libdevice
    except ImportError:
        return
    semantic = interpreter.interpreter_semantic
    for name, member in list(vars(libdevice).items()):
        if tl.core.is_builtin(member):
            function = _bind_semantic(member, semantic)
            setattr(libdevice, name, function)
            setattr(stubs, name, function)


def _bind_semantic(member: Callable[..., Any], semantic: Any) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        return member(*args, **{**kwargs, "_semantic": semantic})

    return function


def _make_inline_assembly(interpreter: Any, log: ShimLog) -> Callable[..., Any]:
    def call(
        self: Any, assembly: str, constraints: str, values: list[Any], types: list[Any], pure: bool, pack: int
    ) -> Any:
        if assembly.lstrip().startswith(_HINTS) and not values:
            nothing = interpreter.TensorHandle(np.zeros(1, dtype=np.int32), getattr(types[0], "scalar", types[0]))
            return SimpleNamespace(get_result=lambda index: nothing)
        try:
            if len(types) != 1 or pack != 1 or any(value.data.dtype != np.float32 for value in values):
                raise UnknownAssemblyError(assembly)
            result = _compute_elementwise(
                interpreter, lambda *arrays: evaluate_assembly(assembly, arrays), values, types[0]
            )
        except UnknownAssemblyError:
            raise TritonGapError(ReasonCode.ASSEMBLY_UNKNOWN, "GPU", assembly=" ".join(assembly.split())[:60]) from None
        log.record_shim(ReasonCode.NUMPY_ASSEMBLY)
        return SimpleNamespace(get_result=lambda index: result)

    return call


def _compute_elementwise(interpreter: Any, function: Callable[..., Any], args: list[Any], result: Any) -> Any:
    dtype = interpreter._get_np_dtype(result)
    with np.errstate(all="ignore"):
        data = np.asarray(function(*(a.data for a in args))).astype(dtype)
    return interpreter.TensorHandle(data, getattr(result, "scalar", result))


Function = Callable[..., Any]

_erf = np.vectorize(math.erf, otypes=[float])
_erfc = np.vectorize(math.erfc, otypes=[float])
_lgamma = np.vectorize(math.lgamma, otypes=[float])
_tgamma = np.vectorize(math.gamma, otypes=[float])

LIBRARY: dict[str, Function] = {
    **{name: getattr(np, name) for name in ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt")},
    **{name: getattr(np, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "floor", "ceil", "trunc")},
    **{name: getattr(np, name) for name in ("cbrt", "rint", "hypot", "fmod", "ldexp", "copysign", "nextafter")},
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "atan2": np.arctan2,
    "pow": np.power,
    "powi": np.power,
    "abs": np.abs,
    "fabs": np.abs,
    "fmin": np.fmin,
    "fmax": np.fmax,
    "min": np.minimum,
    "max": np.maximum,
    "round": lambda x: np.trunc(x + np.copysign(0.5, x)),
    "nearbyint": np.rint,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "rcp_rn": lambda x: 1.0 / x,
    "div_rn": np.divide,
    "fdividef": np.divide,
    "fma": lambda x, y, z: x * y + z,
    "fma_rn": lambda x, y, z: x * y + z,
    "erf": _erf,
    "erfc": _erfc,
    "lgamma": _lgamma,
    "tgamma": _tgamma,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinited": np.isfinite,
    "finite": np.isfinite,
    "saturate": lambda x: np.clip(x, 0.0, 1.0),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
}
"""By the name without its prefix and its suffix for the precision."""


def strip_symbol(symbol: str) -> str:
    """``__nv_fast_expf`` and ``__nv_exp`` are both ``exp``."""
    name = symbol.removeprefix("__nv_").removeprefix("fast_")
    return name if name in LIBRARY else name.removesuffix("f")
