"""Measure a call that is large: along a few directions, at two gradients each, whatever its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from theria.diagnosis.directional import DirectionalProbe
from theria.probes.measure import SCORED
from theria.probes.report import Report
from theria.verdicts import Ground, Reason, Status, Verdict
from theria_lint.worker.find_call.call_strategy import BoundCall, TrialSpec
from theria_lint.worker.find_call.run_trial import heeds_inputs
from theria_lint.worker.parameter_vector import PARAMETERS, as_function_of_parameters


class _MadeCall:
    """A bound call as the probe wants one, with the parameters of its module as one more input."""

    def __init__(self, made: BoundCall) -> None:
        self.module = nn.Module()  # the call gives its own module its state back: that is not to be moved
        self.inputs = dict(made.inputs)
        self._function: Callable[..., Any] = made.compute_output
        joint = as_function_of_parameters(made.module, self._function, made.fresh) if made.module is not None else None
        if joint is not None:
            self._function, self.inputs[PARAMETERS] = joint.function, joint.vector

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """The attention output for these inputs."""
        return self._function(*(tensor.clone() for tensor in inputs))


_STATUSES = {Verdict.HARD_STRUCTURAL: Status.HARD_FAIL_UNUSED, Verdict.FIRST_ORDER_ONLY: Status.HARD_FAIL_OTHER}


def measure_along_directions(made: BoundCall, spec: TrialSpec, configuration: str) -> Report:
    """The report on Hessian-vector products of a call, in its inputs and parameters together."""
    found = DirectionalProbe(_MadeCall(made), spec.seed).measure()
    verdict, why = found.verdict, found.reason
    if verdict is Verdict.SAFE and not heeds_inputs(made, spec.seed):
        told = {"inputs": [name for name in SCORED if name in made.inputs]}
        verdict, why = Verdict.INCONCLUSIVE, Reason(Ground.NO_DEPENDENCE, told)
    return Report(
        _STATUSES.get(verdict, Status.OK),
        verdict,
        why,
        oracle="finite differences (along random directions)",
        dtype=str(spec.dtype).removeprefix("torch."),
        device=spec.device,
        configuration=configuration,
    )
