"""A suspect counts as reached only where it was measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from theria_lint.confirm.protocol import Outcome, TargetRequest
from theria_lint.reasons import ReasonCode
from theria_lint.worker import base_attention, importer, probe_target
from theria_lint.worker.clock import ProbeClock
from theria_lint.worker.shims.fake_cuda import FakeGpu
from theria_lint.worker.shims.shim_log import ShimLog

SOURCE = """
import torch


def attention(q, k, v):
    s = q @ k.mT / q.shape[-1] ** 0.5
    if q.shape[-2] > 100:
        s = s.detach()
    return s.softmax(-1) @ v


def damaged_attention(q, k, v):
    s = q @ k.mT / q.shape[-1] ** 0.5
    if not q.is_contiguous():
        s = s.detach()
    return s.softmax(-1).detach() @ v


def fused_attention(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)
"""


@pytest.fixture(autouse=True)
def _untouched() -> Iterator[None]:
    """A probe replaces the function for good, wherever a module holds it: its process ends soon, this one does not."""
    held = [
        (module, name)
        for module in list(sys.modules.values())
        for name, value in list(vars(module).items())
        if value is base_attention.ORIGINAL_SDPA and module is not base_attention
    ]
    yield
    for module, name in held:
        setattr(module, name, base_attention.ORIGINAL_SDPA)


class Late(ProbeClock):
    """A clock that has time in full for the first measurement only."""

    def is_late(self, seconds: float = 0.0) -> bool:
        return True


class Short(Late):
    """A clock that has time beside it for what takes none."""

    def is_over(self, seconds: float = 0.0) -> bool:
        return seconds > 0.0


class Spent(Late):
    """A clock that has time for nothing else."""

    def is_over(self, seconds: float = 0.0) -> bool:
        return True


def outcome_of(folder: Path, symbol: str, clock: ProbeClock) -> tuple[Outcome, set[int]]:
    """The outcome of a target, and the lines that were reached."""
    path = folder / "kernel.py"
    path.write_text(SOURCE)
    target = importer.resolve_symbol(importer.import_file(str(path)), symbol)
    request = TargetRequest(symbol, "function", {"maml": False})
    found = probe_target.run_target(
        target, request, FakeGpu(ShimLog()), job=0, device="cpu", watched=(str(path),), clock=clock
    )
    return found, {place[0] for place in found.places[str(path)]}


@pytest.mark.parametrize(("clock", "reached"), [(ProbeClock, True), (Late, True), (Short, False), (Spent, False)])
def test_what_only_a_configuration_left_out_for_want_of_time_executes_is_not_reached(tmp_path, clock, reached):
    found, lines = outcome_of(tmp_path, "attention", clock(60))
    assert [run.backend for run in found.runs] == ["self"]
    assert found.runs[0].verdict == ("hard_structural" if reached else "inconclusive")
    assert (8 in lines) is reached


def test_what_only_a_configuration_behind_the_damage_executes_is_not_reached(tmp_path):
    _, lines = outcome_of(tmp_path, "damaged_attention", ProbeClock(60))
    assert 16 in lines
    assert 15 not in lines


def test_the_first_run_tells_whether_backends_belong_under_a_target(tmp_path):
    backends = [run.backend for run in outcome_of(tmp_path, "fused_attention", ProbeClock(60))[0].runs]
    assert backends == ["self", "reference", "custom", "triton"]


def test_what_there_was_no_time_for_is_named_beside_what_is_safe(tmp_path):
    run = outcome_of(tmp_path, "attention", Spent(60))[0].runs[0]
    assert run.reason.code == ReasonCode.NOT_ALL_MEASURED
    assert run.reason.data["safe"] == ["first_sizes"]
    assert "longer_sequence" in run.reason.data["configurations"]
    assert not set(run.reason.data["safe"]) & set(run.reason.data["configurations"])


def test_backends_come_after_what_the_target_is_by_itself(tmp_path):
    runs = outcome_of(tmp_path, "fused_attention", Late(60))[0].runs
    assert [run.backend for run in runs] == ["self", "reference", "custom", "triton"]
    assert runs[0].verdict.unsafe
    for run in runs[1:]:
        assert (run.verdict, run.reason.code) == ("inconclusive", ReasonCode.NOT_PROBED_ON)
        assert run.reason.data["reason"].code == ReasonCode.OUT_OF_TIME
