"""For a kernel author's own test suite."""

from __future__ import annotations

from typing import Any

from theria.probes import Report, probe
from theria.probes.point import Function


class SecondOrderError(AssertionError):
    """Attention is not safe to differentiate twice; ``report`` holds the measurement."""

    def __init__(self, report: Report) -> None:
        """Shows the whole report as the message."""
        super().__init__(f"not safe to differentiate twice\n{report}")
        self.report = report


def assert_second_order_safe(fn: Function, **options: Any) -> Report:
    """Fails with the table of blocks unless ``theria.probe(fn, **options)`` finds attention safe.

    Args:
        fn: attention of q, k, v, as ``theria.probe`` takes it.
        options: those of ``theria.probe``: shape, layout, scale, is_causal, dtype, device, oracle, seed.

    Raises:
        SecondOrderError: if the verdict is anything but ``safe``, ``inconclusive`` included.
    """
    report = probe(fn, **options)
    if not report.safe:
        raise SecondOrderError(report)
    return report
