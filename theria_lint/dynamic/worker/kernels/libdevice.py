"""NumPy bodies for the functions of CUDA's math library that kernels use most."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

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


def plain_symbol(symbol: str) -> str:
    """``__nv_fast_expf`` and ``__nv_exp`` are both ``exp``."""
    name = symbol.removeprefix("__nv_").removeprefix("fast_")
    return name if name in LIBRARY else name.removesuffix("f")
