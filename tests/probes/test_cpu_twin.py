"""On a GPU finite differences are those of the same code on the CPU, where it computes the same there."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from theria.probes.measure import measure
from theria.probes.point import draw

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here"),
]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q.sin() @ k.mT).softmax(-1) @ v


def attend_without_curvature(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v.detach()) + (q * v).sin() * 0.1 + v


def draw_inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: draw((2, 5, 4), generator).cuda() for name in ("q", "k", "v")}


def test_the_gpu_is_asked_for_derivatives_alone() -> None:
    calls: Counter[str] = Counter()

    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls[q.device.type] += 1
        return attend(q, k, v)

    report = measure(function, draw_inputs(), cpu_twin=function)
    assert (report.verdict, report.device) == ("safe", "cuda")
    assert report.oracle.startswith("finite differences")
    assert calls["cuda"] < 30 < calls["cpu"]


def test_what_is_lost_on_the_gpu_is_seen() -> None:
    report = measure(attend_without_curvature, draw_inputs(), cpu_twin=attend_without_curvature)
    assert report.verdict.unsafe


def test_what_is_lost_on_the_gpu_alone_is_seen() -> None:
    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k.detach() if k.is_cuda else k, v)

    assert measure(function, draw_inputs(), cpu_twin=function).verdict.unsafe


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_a_twin_that_is_another_function_is_not_used(factor: float) -> None:
    inputs = draw_inputs()
    here = inputs["q"].cpu()

    def other(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return factor * attend(q, k, v) + (q - here).pow(2) * v + (q - here)

    assert measure(attend, inputs, cpu_twin=other).verdict == "safe"


def test_code_for_a_gpu_is_measured_there() -> None:
    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not q.is_cuda:
            raise RuntimeError("expected a CUDA tensor")
        return attend(q, k, v)

    assert measure(function, draw_inputs(), cpu_twin=function).verdict == "safe"
