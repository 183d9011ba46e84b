"""Whether a measurement says something of the target, or only of the arguments that were made up for it."""

from __future__ import annotations

from dataclasses import replace

from theria.probes import Report
from theria.verdicts import Verdict

_MISFIT = "returned an invalid gradient at index"
"""How PyTorch complains of a gradient that has another shape than its input."""

_OF_KERNELS = ("InterpreterError", "OutsideError", "CompilationError")

MISFIT = (
    "its backward gives gradients of other shapes than the inputs that were made up for it; "
    "name its arguments in the configuration"
)

NO_REFERENCE = (
    "the configuration wants the reference as its oracle, and its forward is not softmax attention as it was called"
)


def is_misfit(error: Exception) -> bool:
    """Whether a backward that raised says that its forward had the wrong arguments, more likely than anything else."""
    return _MISFIT in str(error) or type(error).__name__ in _OF_KERNELS


def weighed(report: Report, oracle: str | None) -> Report:
    """The report, inconclusive where made-up arguments explain it as well as the target does.

    Nor does a measurement count by another oracle than the ``oracle`` that the configuration wants, if it wants one.
    """
    if report.verdict.unsafe and _MISFIT in report.reason:
        return replace(report, verdict=Verdict.INCONCLUSIVE, reason=MISFIT)
    if oracle == "reference" and report.oracle not in ("", oracle):
        return replace(report, verdict=Verdict.INCONCLUSIVE, reason=NO_REFERENCE)
    return report
