"""Differences tell nothing at a point where the forward jumps."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from theria.probes import Report
from theria.probes.layouts import ROUND
from theria.verdicts import Ground, Reason, Status, Verdict
from theria_lint.reasons import ReasonCode
from theria_lint.worker import second_looks
from theria_lint.worker.find_call.call_strategy import RECORDED, BoundCall, TrialSpec

INPUTS = {"q": torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}

SMOOTH = {
    "softmax": lambda q: q.softmax(-1) * 3,
    "kinked": lambda q: q.relu() @ q.abs().mT,
    "in float32": lambda q: (q.float() @ q.float().mT).softmax(-1).double(),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_kinks_and_rounding_are_no_jumps(name):
    assert not second_looks.is_discontinuous(BoundCall(SMOOTH[name], INPUTS), 0, order=2)


def test_a_forward_that_breaks_ties_jumps():
    def routed(q: torch.Tensor) -> torch.Tensor:
        return q * (1 + (q.softmax(-1).sum(-1) * 1e16).remainder(7)).unsqueeze(-1)

    assert second_looks.is_discontinuous(BoundCall(routed, INPUTS), 0)


def test_a_jump_within_the_reach_of_differences_is_one():
    def routed(q: torch.Tensor) -> torch.Tensor:
        return torch.where(q[:1] > INPUTS["q"][:1] + 1e-5, 2 * q, q)

    assert second_looks.is_discontinuous(BoundCall(routed, INPUTS), 0)


BLAMED = Report(
    Status.OK,
    Verdict.SILENT_CORRUPTION,
    Reason(Ground.BLOCKS_LOST),
    dtype="float64",
    device="cpu",
    oracle="finite differences (of it)",
)
SPEC = TrialSpec(ROUND, "bhtd", torch.float64, "cpu", torch.softmax)


@pytest.mark.parametrize(
    ("jumping", "verdict"),
    [(set(), "silent_corruption"), ({0, 1}, "safe"), (set(range(second_looks.POINTS)), "inconclusive")],
)
def test_another_point_is_taken_where_there_is_one(monkeypatch, jumping, verdict):
    monkeypatch.setattr(second_looks, "is_discontinuous", lambda made, seed, order: seed in jumping)
    binding = SimpleNamespace(make_call=lambda spec: None)
    found = second_looks.retry_off_discontinuity(
        BLAMED, SPEC, binding, lambda spec: replace(BLAMED, verdict=Verdict.SAFE)
    )
    assert found.verdict == verdict


DOUBTED = replace(BLAMED, verdict=Verdict.INCONCLUSIVE, why=Reason(Ground.ORACLE_DOUBTFUL, {"judged": ["∂L/∂x"]}))
IN_PARAMETERS = replace(DOUBTED, why=Reason(ReasonCode.SAFE_IN_INPUTS, {"reason": DOUBTED.why, "inputs": ["x"]}))
UNREPEATABLE = replace(DOUBTED, why=Reason(Ground.FORWARD_NOT_REPEATABLE))


@pytest.mark.parametrize(
    ("report", "choice", "late", "verdict"),
    [
        (DOUBTED, {RECORDED: 0}, False, "safe"),
        (IN_PARAMETERS, {RECORDED: 0}, False, "safe"),
        (UNREPEATABLE, {RECORDED: 0}, False, "inconclusive"),
        (DOUBTED, {}, False, "inconclusive"),
        (DOUBTED, {RECORDED: 0}, True, "inconclusive"),
    ],
)
def test_a_recorded_call_near_a_kink_is_measured_elsewhere(report, choice, late, verdict):
    def measure(spec):
        return replace(BLAMED, verdict=Verdict.SAFE) if spec.seed == last else DOUBTED

    last = SPEC.seed + second_looks.CLEARER_POINTS * second_looks.POINTS
    spec = replace(SPEC, choice=choice)
    found, moved = second_looks.retry_off_doubt(report, spec, measure, lambda: late)
    assert (found.verdict, moved.seed) == (verdict, last if verdict == "safe" else SPEC.seed)
