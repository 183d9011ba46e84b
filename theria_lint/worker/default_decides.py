"""Let the call with its author's defaults decide: what is safe only when it is called otherwise is not safe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from theria.probes.report import Report
from theria.verdicts import Verdict
from theria_lint.model import Configuration, Run, judge_runs
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.worker.find_call.call_strategy import TrialSpec

_SAID_BY_CALLERS = ("layout", "evaluating", "masking", "small", "choice", "called", "turned")
"""What makes another way of calling of a spec; numbers, sizes, strides and precisions are made up by us alone."""


def list_safe_elsewhere(reports: Sequence[Report], specs: Mapping[str, TrialSpec], first: TrialSpec) -> list[str]:
    """The configurations in which a target is safe, if nothing is unsafe and it is not known to be safe as it is.

    As it is: as ``first`` calls it, at any numbers and sizes. A longer sequence is measured along fewer routes and not
    in parameters: it alone makes nothing safe.
    """
    safe = [report.configuration for report in reports if report.verdict is Verdict.SAFE]
    known = any(name != Configuration.LONGER_SEQUENCE and _is_called_alike(specs[name], first) for name in safe)
    return [] if known or any(report.verdict.unsafe for report in reports) else safe


def _is_called_alike(spec: TrialSpec, first: TrialSpec) -> bool:
    return all(getattr(spec, name) == getattr(first, name) for name in _SAID_BY_CALLERS)


def with_safe_elsewhere(run: Run, configurations: Iterable[str]) -> Run:
    """An inconclusive run that says in which configurations its target is safe, if there are any.

    A longer sequence is none of them: nobody knows what its parameters are worth there.
    """
    named = [name for name in configurations if name != Configuration.LONGER_SEQUENCE]
    told = {"reason": run.reason or Reason(ReasonCode.NOTHING_MEASURED), "configurations": named}
    return replace(run, reason=Reason(ReasonCode.SAFE_OTHERWISE, told)) if told["configurations"] else run


def settles(runs: Sequence[Run]) -> bool:
    """Whether runs of a call tell what the target is: one is unsafe, or the target as it is was judged."""
    return judge_runs(runs) is not Verdict.INCONCLUSIVE
