"""Keeps autotuners from trying every configuration: one tells as much of the derivatives as all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from theria_lint.dynamic.worker import helps


def take_first() -> None:
    """Autotuners take the first configuration that is not pruned, unmeasured; does nothing without Triton.

    An interpreted kernel would be run for each, and a compiled one compiled, which takes seconds.
    """
    try:
        from triton.runtime.autotuner import Autotuner
    except ImportError:
        return
    prune = Autotuner.prune_configs

    def first(self: Any, kwargs: Any, *rest: Any) -> list[Any]:
        helps.give("the first of each autotuner's configurations")
        return list(prune(self, kwargs, *rest))[:1]

    def bench(self: Any, *args: Any, config: Any, **meta: Any) -> list[float]:
        return [1.0, 1.0, 1.0]

    def check_disk_cache(self: Any, tuning_key: Any, configs: Any, bench_fn: Callable[[], Any]) -> bool:
        bench_fn()
        return False

    Autotuner.prune_configs, Autotuner._bench, Autotuner.check_disk_cache = first, bench, check_disk_cache
