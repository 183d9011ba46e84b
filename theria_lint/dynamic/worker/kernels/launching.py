"""How Triton kernels are launched: it is listened to, autotuners do not try everything, and products are precise."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from theria_lint.dynamic.worker import helps


def watch() -> None:
    """Prepares Triton before code is imported that may hold kernels; does nothing where it is not installed."""
    try:
        from triton.runtime.autotuner import Autotuner
        from triton.runtime.interpreter import InterpretedFunction
        from triton.runtime.jit import JITFunction
    except ImportError:
        return
    _count_launches(InterpretedFunction)
    _count_launches(JITFunction)
    _take_first(Autotuner)


_PRECISION = "TRITON_F32_DEFAULT"
"""The environment variable that tells Triton how to multiply float32 matrices where a kernel does not."""

_sharpened = False


def sharpen() -> None:
    """Has compiled kernels multiply float32 numbers to full precision, in three passes of TensorFloat-32.

    One pass, the default on NVIDIA's GPUs, leaves an error of 1e-3, in which finite differences of a forward drown.
    """
    global _sharpened
    if _PRECISION not in os.environ and torch.version.hip is None:
        os.environ[_PRECISION] = "tf32x3"
        _sharpened = True


def _count_launches(function: Any) -> None:
    """Lets it be known who has kernels, and when one of the code under test runs."""
    run, init = function.run, function.__init__

    def noted(self: Any, fn: Any, *args: Any, **kwargs: Any) -> None:
        helps.kernel(getattr(fn, "__module__", None) or "")
        init(self, fn, *args, **kwargs)

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not (getattr(self.fn, "__module__", None) or "").startswith("theria."):
            helps.launch()
            if _sharpened:
                helps.give("float32 products of Triton's kernels to full precision")
        return run(self, *args, **kwargs)

    function.run = counted
    function.__init__ = noted


def _take_first(autotuner: Any) -> None:
    """Autotuners take the first configuration that is not pruned, unmeasured: it tells as much as all of them.

    An interpreted kernel would be run for each, and a compiled one compiled, which takes seconds.
    """
    prune = autotuner.prune_configs

    def first(self: Any, kwargs: Any, *rest: Any) -> list[Any]:
        helps.give("the first of each autotuner's configurations")
        return list(prune(self, kwargs, *rest))[:1]

    def bench(self: Any, *args: Any, config: Any, **meta: Any) -> list[float]:
        return [1.0, 1.0, 1.0]

    def check_disk_cache(self: Any, tuning_key: Any, configs: Any, bench_fn: Callable[[], Any]) -> bool:
        bench_fn()
        return False

    autotuner.prune_configs, autotuner._bench, autotuner.check_disk_cache = first, bench, check_disk_cache
