"""Say of a safe run what was differentiated, and what was left out on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from theria.probes.report import Report
from theria.verdicts import Verdict
from theria_lint.model import Run
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.worker.find_call.call_strategy import TrialSpec
from theria_lint.worker.find_call.computation import Outputs
from theria_lint.worker.find_call.run_trial import WorkingCall


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
