"""A module that is safe in one configuration is measured in inputs and parameters together in the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from theria.probes.layouts import ODD
from theria.probes.measure import measure
from theria.probes.report import Report
from theria.verdicts import Verdict
from theria_lint.model import TargetKind
from theria_lint.reasons import ReasonCode
from theria_lint.worker.configurations.measure_configuration import Measuring
from theria_lint.worker.find_call.call_strategy import BoundCall, TrialSpec
from theria_lint.worker.find_call.search import find_working_call
from theria_lint.worker.parameter_vector import measure_with_parameters
from theria_lint.worker.shims.shim_log import ShimLog


class _FlatCube(torch.autograd.Function):
    """x³ with its gradient, of which no gradient is recorded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (3 * x * x).detach()


class _Module(nn.Module):
    """Many parameters, beside whose part in the output that of the input is small."""

    def __init__(self, scale: float, *, flat: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(400, generator=generator, dtype=torch.float64))
        self.scale, self.flat = scale, flat
        self.start = float(self.weight.detach().pow(3).sum())  # so that rounding is that of the input's part

    def forward(self, x: Tensor) -> Tensor:
        cube = _FlatCube.apply(x) if self.flat else x**3
        return self.scale * cube + (self.weight.pow(3).sum() - self.start)  # type: ignore[no-any-return, operator]


class Particular(nn.Module):
    """Takes no other tensor in the place of its parameter."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * dim, dim) / dim**0.5)

    def forward(self, x: Tensor) -> Tensor:
        if type(self.weight) is not nn.Parameter:
            raise TypeError("no parameter")
        q, k, v = nn.functional.linear(x, self.weight).chunk(3, -1)
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


def measured(module: nn.Module, *, first: bool) -> tuple[Report, int]:
    """The report of a module, and how often its inputs were measured alone."""
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    made = BoundCall(module, {"x": x}, module=module)
    spec = TrialSpec(ODD, "x", torch.float64, "cpu", torch.add)
    asked = []

    def measure_inputs() -> Report:
        asked.append(1)
        return measure(made.compute_output, made.inputs)

    report = measure_with_parameters(made, spec, "odd_sizes", measure_inputs, first=first, both=False)
    return report, len(asked)


def test_a_safe_module_is_measured_once_and_the_report_is_of_its_inputs() -> None:
    report, asked = measured(_Module(1.0, flat=False), first=False)
    assert (report.verdict, asked) == (Verdict.SAFE, 0)
    assert list(report.gradients) == ["x"]
    assert set(report.blocks) == {"x,x", "x,out"}
    assert report.remarks[-1].data["verdict"] == "safe"


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6, 1e-9])
def test_what_is_lost_of_an_input_does_not_pass_for_zero_beside_the_parameters(scale: float) -> None:
    assert measured(_Module(scale, flat=True), first=False)[0].verdict is Verdict.SILENT_COLLAPSE
    assert measured(_Module(scale, flat=False), first=False)[0].verdict is Verdict.SAFE


def test_the_first_configuration_has_its_inputs_measured_alone() -> None:
    assert measured(_Module(1.0, flat=False), first=True)[1] == 1


@pytest.mark.parametrize("name", ["first_sizes", "round_sizes"])
def test_what_is_known_of_inputs_stays_where_parameters_cannot_be_measured(name: str) -> None:
    call = find_working_call(Particular, TargetKind.MODULE, "cpu", {}, 60.0, ShimLog())
    report, _ = Measuring(call).measure_configuration(name, call.spec)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.why.code == ReasonCode.SAFE_IN_INPUTS
    assert report.why.data["reason"].code == ReasonCode.PARAMETERS_RAISE
    assert report.gradients["x"].state == "right"
