"""Hook Triton's launches: count kernels, take an autotuner's first configuration, multiply at full precision."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from theria_lint.reasons import ReasonCode
from theria_lint.worker.shims.shim_log import ShimLog


def watch_launches(log: ShimLog, full_precision: bool) -> None:
    """Prepare Triton before code is imported that may hold kernels; do nothing where it is not installed.

    ``full_precision``: compiled kernels multiply with more precision than they would, which is to be said of them.
    """
    try:
        from triton.runtime.autotuner import Autotuner
        from triton.runtime.interpreter import InterpretedFunction
        from triton.runtime.jit import JITFunction
    except ImportError:
        return
    _hook_launches(InterpretedFunction, log, full_precision)
    _hook_launches(JITFunction, log, full_precision)
    _take_first_configuration(Autotuner, log)


_PRECISION = "TRITON_F32_DEFAULT"
"""The environment variable that tells Triton how to multiply float32 matrices where a kernel does not."""


def raise_float32_precision() -> bool:
    """Have compiled kernels multiply float32 numbers to full precision, unless the user has said how; whether it is so.

    That is in three passes of TensorFloat-32. One, the default on NVIDIA's GPUs, leaves an error of 1e-3, in which
    finite differences of a forward drown.
    """
    if _PRECISION in os.environ or torch.version.hip is not None:
        return False
    os.environ[_PRECISION] = "tf32x3"
    return True


def _hook_launches(function: Any, log: ShimLog, full_precision: bool) -> None:
    """Let it be known who has kernels, and when one of the code under test runs."""
    run, init = function.run, function.__init__

    def noted(self: Any, fn: Any, *args: Any, **kwargs: Any) -> None:
        log.record_kernel_module(getattr(fn, "__module__", None) or "")
        init(self, fn, *args, **kwargs)

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not (getattr(self.fn, "__module__", None) or "").startswith("theria."):
            log.record_launch()
            if full_precision:
                log.record_shim(ReasonCode.FULL_PRECISION)
        return run(self, *args, **kwargs)

    function.run = counted
    function.__init__ = noted


def _take_first_configuration(autotuner: Any, log: ShimLog) -> None:
    """Autotuners take the first configuration that is not pruned and runs, unmeasured: it tells as much as all of them.

    An interpreted kernel would be run for each, and a compiled one compiled, which takes seconds. What does not fit the
    GPU is passed over, as the autotuner itself does.
    """
    prune, bench_one = autotuner.prune_configs, autotuner._bench

    def candidates(self: Any, kwargs: Any, *rest: Any) -> list[Any]:
        log.record_shim(ReasonCode.FIRST_AUTOTUNED)
        self._theria_found = False
        pruned = list(prune(self, kwargs, *rest))
        return pruned[:1] if _is_interpreted_kernel(self) else pruned

    def bench(self: Any, *args: Any, config: Any, **meta: Any) -> list[float]:
        if _is_interpreted_kernel(self):
            return _ONCE
        if self._theria_found:
            return _NEVER
        self.do_bench = _benchmark_once
        times = bench_one(self, *args, config=config, **meta)
        self._theria_found = times != _NEVER
        return list(times)

    def check_disk_cache(self: Any, tuning_key: Any, configs: Any, bench_fn: Callable[[], Any]) -> bool:
        bench_fn()
        return False

    autotuner.prune_configs, autotuner._bench, autotuner.check_disk_cache = candidates, bench, check_disk_cache


_ONCE, _NEVER = [1.0, 1.0, 1.0], [float("inf")] * 3


def _benchmark_once(kernel_call: Callable[[], Any], quantiles: Any = None, **options: Any) -> list[float]:
    """A benchmarker that sees whether a kernel runs."""
    kernel_call()
    return _ONCE


def _is_interpreted_kernel(tuned: Any) -> bool:
    """Whether what an autotuner launches, perhaps by way of heuristics, is interpreted."""
    from triton.runtime.interpreter import InterpretedFunction

    while not isinstance(tuned, InterpretedFunction) and hasattr(tuned, "fn"):
        tuned = tuned.fn
    return isinstance(tuned, InterpretedFunction)
