"""NumPy bodies for the functions of CUDA's math library and the PTX instructions that kernels use most."""

from __future__ import annotations

import math
import re
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


def _alone(instruction: str) -> re.Pattern[str]:
    """Matches assembly that holds this one instruction and nothing else."""
    return re.compile(r"^\s*\{?\s*" + instruction + r"\s+\$0\s*,\s*\$1(\s*,\s*\$2)?\s*;?\s*\}?\s*$")


ASSEMBLY: tuple[tuple[re.Pattern[str], Function], ...] = (
    (_alone(r"mov\.\w+"), lambda x: x),
    (_alone(r"tanh\.approx\.\w+"), np.tanh),
    (_alone(r"ex2\.approx(\.ftz)?\.\w+"), np.exp2),
    (_alone(r"lg2\.approx(\.ftz)?\.\w+"), np.log2),
    (_alone(r"sin\.approx(\.ftz)?\.\w+"), np.sin),
    (_alone(r"cos\.approx(\.ftz)?\.\w+"), np.cos),
    (_alone(r"rcp\.(approx|rn)(\.ftz)?\.\w+"), lambda x: 1.0 / x),
    (_alone(r"rsqrt\.approx(\.ftz)?\.\w+"), lambda x: 1.0 / np.sqrt(x)),
    (_alone(r"sqrt\.(approx|rn)(\.ftz)?\.\w+"), np.sqrt),
)
"""Single instructions on one register; the first pattern that matches serves."""

HINTS = ("griddepcontrol", "prefetch")
"""Instructions that say when to run and not what to compute: nothing is to be done for them."""
