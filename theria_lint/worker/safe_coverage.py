"""Tell how far a verdict of safe goes: in which ways of calling, and in which inputs and outputs.

The call with its author's defaults decides: what is safe only when it is called otherwise is not safe. Of what is safe
a note says what was differentiated, and what was left out on purpose.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from theria.probes.report import Report
from theria.verdicts import Verdict
from theria_lint.model import Configuration, Run, judge_runs
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.worker.find_call.call_strategy import TrialSpec
from theria_lint.worker.find_call.computation import Outputs
from theria_lint.worker.find_call.run_trial import WorkingCall

_SAID_BY_CALLERS = ("layout", "evaluating", "masking", "small", "choice", "given", "called", "turned", "magnitudes")
"""What makes another way of calling of a spec; numbers, sizes, strides and precisions are made up by us alone.

So are magnitudes, but where they saturate a softmax little is left to be wrong.
"""


def list_safe_elsewhere(
    reports: Sequence[Report], specs: Mapping[str, TrialSpec], first: TrialSpec, hurried: Collection[str] = ()
) -> list[str]:
    """The configurations in which a target is safe, if nothing is unsafe and it is not known to be safe as it is.

    As it is: as ``first`` calls it, at any numbers and sizes. A longer sequence is measured along fewer routes and not
    in parameters, and the ``hurried`` ones are measured along a few directions for want of time: they alone make
    nothing safe.
    """
    safe = [report.configuration for report in reports if report.verdict is Verdict.SAFE]
    weak = {Configuration.LONGER_SEQUENCE, *hurried}
    known = any(name not in weak and _is_called_alike(specs[name], first) for name in safe)
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


def hold_back_unfinished(run: Run, reports: Iterable[Report], left_out: Sequence[str]) -> Run:
    """A safe run as inconclusive, if there was no time for some configurations: what is slow is no safer for it."""
    if run.verdict is not Verdict.SAFE or not left_out:
        return run
    told = {"configurations": list(left_out), "safe": [report.configuration for report in reports]}
    return replace(run, verdict=Verdict.INCONCLUSIVE, reason=Reason(ReasonCode.NOT_ALL_MEASURED, told))


def settles(runs: Sequence[Run]) -> bool:
    """Whether runs of a call tell what the target is: one is unsafe, or the target as it is was judged."""
    return judge_runs(runs) is not Verdict.INCONCLUSIVE


def note_coverage(
    run: Run, reports: Iterable[Report], specs: Mapping[str, TrialSpec], working_call: WorkingCall, outputs: Outputs
) -> Run:
    """A safe run with a note of the inputs and outputs in whose derivatives it is safe; any other run as it is."""
    if run.verdict is not Verdict.SAFE:
        return run
    measured = [report for report in reports if report.verdict is Verdict.SAFE]
    inputs = list(dict.fromkeys(name for report in measured for name in report.gradients))
    constants, discrete = _list_other_tensors(working_call, inputs)
    whole = any(specs[report.configuration].whole for report in measured if report.configuration in specs)
    told = {
        "inputs": inputs,
        "constants": constants,
        "discrete": discrete,
        "outputs": _count(outputs.recorded) if whole or len(outputs.recorded) == 1 else [],
        "outside": _count(outputs.declared),
        "dtypes": list(dict.fromkeys(report.dtype for report in measured)),
    }
    return replace(run, notes=(*run.notes, Reason(ReasonCode.MEASURED, told)))


def _list_other_tensors(working_call: WorkingCall, inputs: Iterable[str]) -> tuple[list[str], list[str]]:
    """Tensors that the target is given and that are no inputs: those of numbers, and those that have no derivative."""
    try:
        made = working_call.strategy.make(working_call.spec, working_call.strategy.choice)
    except Exception:  # code that was not written for us, called once more
        return [], []
    known = set(inputs)
    return [name for name in made.extras if name not in known], list(made.discrete)


def _count(numbers: Iterable[int]) -> list[str]:
    return [str(number + 1) for number in numbers]
