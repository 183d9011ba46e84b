"""For a kernel author's own test suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, Unpack

from torch import Tensor

from theria.probes import Report, probe
from theria.probes.sweep import ProbeOptions

Adapter = TypeVar("Adapter", bound=Callable[..., Any])

ADAPTERS: dict[str, Callable[..., Any]] = {}
"""The adapters that were imported, by the target that each of them calls."""


def target(name: str) -> Callable[[Adapter], Adapter]:
    """Mark a function of q, k, v as the way to call an attention callable that theria-lint cannot call by itself.

    The file that holds the function is named by ``adapters`` in the linter's configuration. Where the target is linted,
    the function is probed in its place; it may take and return what `theria.probe` allows.

    Args:
        name: the target, as ``package.module:symbol``.

    Raises:
        ValueError: if the name has no symbol.
    """
    if not name.rpartition(":")[2]:
        raise ValueError(f"{name!r} names no target: write package.module:symbol")

    def mark(function: Adapter) -> Adapter:
        ADAPTERS[name] = function
        return function

    return mark


class SecondOrderError(AssertionError):
    """Attention is not safe to differentiate twice; ``report`` holds the measurement."""

    def __init__(self, report: Report) -> None:
        """Show the whole report as the message: the verdict comes first, as a summary shows one line alone."""
        super().__init__(str(report))
        self.report = report


def assert_second_order_safe(fn: Callable[..., Tensor], *inputs: Any, **options: Unpack[ProbeOptions]) -> Report:
    """Fail with the table of blocks unless ``theria.probe(fn, *inputs, **options)`` finds attention safe.

    Args:
        fn: attention of q, k, v, or of the inputs, as ``theria.probe`` takes it.
        inputs: what to call it with, such as the x of a module.
        options: those of ``theria.probe``: shape, layout, scale, is_causal, dtype, device, oracle, seed.

    Raises:
        SecondOrderError: if the verdict is anything but ``safe``, ``inconclusive`` included.
    """
    __tracebackhide__ = True  # pytest shows the line of the test that failed, and none of ours
    report = probe(fn, *inputs, **options)
    if not report.safe:
        raise SecondOrderError(report)
    return report
