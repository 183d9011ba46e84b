"""Listens to the launches of Triton kernels, interpreted and compiled, and keeps autotuners from trying everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def _count_launches(function: Any) -> None:
    """Lets it be known who has kernels, and when one of the code under test runs."""
    run, init = function.run, function.__init__

    def noted(self: Any, fn: Any, *args: Any, **kwargs: Any) -> None:
        helps.kernel(getattr(fn, "__module__", None) or "")
        init(self, fn, *args, **kwargs)

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not (getattr(self.fn, "__module__", None) or "").startswith("theria."):
            helps.launch()
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
