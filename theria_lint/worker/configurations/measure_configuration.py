"""Measure a target in one configuration: its inputs, its parameters, and a second look where something seems wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from theria.probes.derivatives import SECONDARY, Route
from theria.probes.measure import measure
from theria.probes.point import call
from theria.probes.report import Report
from theria.probes.rounding import relative_error
from theria.probes.sweep import attention_references
from theria_lint.model import Configuration
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.worker.along_directions import measure_along_directions
from theria_lint.worker.clock import ProbeClock, read_clock
from theria_lint.worker.find_call.call_strategy import BoundCall, TrialSpec
from theria_lint.worker.find_call.run_trial import InvalidTrialError, WorkingCall, downgrade_if_misfit
from theria_lint.worker.parameter_vector import measure_with_parameters
from theria_lint.worker.second_looks import retry_contiguous, retry_off_discontinuity, retry_off_doubt

ReferenceTwin = Callable[[TrialSpec], Callable[..., Tensor]]
"""Makes the same target on the reference backend: the same function, and fast where the backend is interpreted."""


_DIRECTIONS_COST = 0.3
"""What a measurement along directions takes, as a part of one in full, before one has been timed; it is less."""


class Pace:
    """How much there is time for: a configuration in full, along directions at a part of the cost, or not at all."""

    def __init__(self, clock: ProbeClock) -> None:
        """``clock`` is that of the whole probe."""
        self._clock = clock
        self._longest = {False: 0.0, True: 0.0}

    def choose_spec(self, spec: TrialSpec) -> TrialSpec | None:
        """The spec as there is time to measure it; None where there is none."""
        if not spec.directional and not self._clock.is_late(self._longest[False]):
            return spec
        least = self._longest[True] or _DIRECTIONS_COST * self._longest[False]
        return None if self._clock.is_over(least) else replace(spec, directional=True)

    def has_time(self, spec: TrialSpec) -> bool:
        """Whether a spec can be measured once more, in full, where its verdict depends on it."""
        return not spec.directional and not self._clock.is_over(self._longest[False])

    @contextmanager
    def time_spec(self, spec: TrialSpec) -> Iterator[None]:
        """Keep in mind how long the measurement takes."""
        began = read_clock()
        try:
            yield
        finally:
            self._longest[spec.directional] = max(self._longest[spec.directional], read_clock() - began)


@dataclass(frozen=True)
class Measuring:
    """What is measured, and how: by which oracle, and whether our own Triton ``kernels`` run under it.

    ``is_late`` says whether there is no time for second looks that a verdict can do without.
    """

    working_call: WorkingCall
    hints: Mapping[str, Any] = field(default_factory=dict)
    twin: ReferenceTwin | None = None
    kernels: bool = False
    is_late: Callable[[], bool] = lambda: False

    def measure_configuration(self, name: str, spec: TrialSpec) -> tuple[Report, list[Reason]]:
        """The report on one configuration, and what is to be told beside it.

        Raises:
            Exception: whatever the target's own forward raises.
        """

        def measured(spec: TrialSpec = spec, routes: Sequence[Route] = SECONDARY) -> Report:
            return self._measure_spec(spec, name, routes)

        longer = name == Configuration.LONGER_SEQUENCE
        interpreted = self.kernels and spec.device == "cpu"
        report = measured(routes=SECONDARY[:0] if interpreted or longer else SECONDARY)
        report, spec = retry_off_doubt(report, spec, measured, self.is_late)
        if longer and report.verdict.unsafe:  # a long sequence is full of kinks, which few differences miss
            report = measured()
        if spec.output is not None and report.verdict.unsafe:
            why = Reason(ReasonCode.OF_OUTPUT, {"reason": report.why, "output": spec.output + 1})
            report = replace(report, why=why)
        report = retry_off_discontinuity(report, spec, self.working_call, measured)
        return retry_contiguous(report, self.working_call.make_call(spec), spec.seed, lambda: measured(spec))

    def _measure_spec(self, spec: TrialSpec, name: str, routes: Sequence[Route]) -> Report:
        made = self.working_call.make_call(spec)
        if spec.directional:
            return measure_along_directions(made, spec, name)
        if spec.strided and not self._gives_same_output(spec, made):
            raise InvalidTrialError(ReasonCode.STRIDES_MATTER)
        # By a reference that the configuration wants nothing is known of parameters; and with others in their place
        # a call finds nothing that the one before has kept under theirs.
        first = name == Configuration.FIRST_SIZES or spec.called or self.hints.get("oracle") == "reference"

        def measure_inputs() -> Report:
            # A module that was measured with a vector of parameters holds parts of it still: another is built.
            own = made if first or not routes else self.working_call.make_call(spec)
            return self._measure_inputs(own, spec, name, routes)

        if not routes:
            return measure_inputs()
        # What is said of a variant is held against the same of the file as it is: it takes no more than the verdict.
        both = self.hints.get("maml", True)
        twin = self._make_cpu_twin(spec)
        return measure_with_parameters(made, spec, name, measure_inputs, first=first, both=both, cpu_twin=twin)

    def _measure_inputs(self, made: BoundCall, spec: TrialSpec, name: str, routes: Sequence[Route]) -> Report:
        by_differences = self.hints.get("oracle") == "finite differences"
        log, longer = self.working_call.log, name == Configuration.LONGER_SEQUENCE
        launched = log.count_launches()
        on_cpu = self._make_cpu_twin(spec)
        report = measure(
            made.compute_output,
            made.inputs,
            references=attention_references(made.layout) if made.layout and not by_differences else [],
            is_slow=lambda: (longer and not routes) or (spec.device == "cpu" and log.count_launches() > launched),
            twin=self.twin(spec) if self.twin else None,
            cpu_twin=on_cpu.compute_output if on_cpu else None,
            routes=routes,
            seed=spec.seed,
            configuration=name,
            sizes=made.sizes,
        )
        return downgrade_if_misfit(report, self.hints.get("oracle"))

    def _make_cpu_twin(self, spec: TrialSpec) -> BoundCall | None:
        """The same call on the CPU, of one on a GPU in float64; None where it cannot be made there.

        Nor of one over our kernels, which Triton would compile in vain.
        """
        if spec.device == "cpu" or spec.dtype is not torch.float64 or self.kernels:
            return None
        try:
            return self.working_call.make_call(replace(spec, device="cpu"))
        except Exception:  # code that was not written for a CPU
            return None

    def _gives_same_output(self, spec: TrialSpec, made: BoundCall) -> bool:
        plain = self.working_call.make_call(replace(spec, strided=False))
        outputs = [call(c.compute_output, c.inputs, spec.seed) for c in (plain, made)]
        return outputs[0].shape == outputs[1].shape and relative_error(outputs[1], outputs[0]) < 1e-2
