"""A module that is too slow to be measured in full, and bears no smaller sizes, is measured along directions."""

from __future__ import annotations

import time

import pytest
from torch import Tensor, nn

from theria.verdicts import Verdict
from theria_lint.model import TargetKind
from theria_lint.worker.along_directions import measure_along_directions
from theria_lint.worker.find_call import search
from theria_lint.worker.find_call.search import find_working_call
from theria_lint.worker.shims.shim_log import ShimLog


class DeepAttention(nn.Module):
    """As slow as one of many wide layers."""

    def __init__(self, dim: int, frozen: bool = False) -> None:
        super().__init__()
        self.qkv, self.frozen = nn.Linear(dim, 3 * dim), frozen

    def forward(self, x: Tensor) -> Tensor:
        end = time.process_time() + search.TOO_SLOW
        while time.process_time() < end:
            pass
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = (q @ k.mT).softmax(-1)
        return (weights.detach() if self.frozen else weights) @ v  # type: ignore[no-any-return]


class FrozenDeepAttention(DeepAttention):
    """Loses what its weights depend on."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, frozen=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TOO_SLOW", 0.02)
    monkeypatch.setattr(search, "SLOW_CALL_SECONDS", 60.0)


@pytest.mark.parametrize(("target", "verdict"), [(DeepAttention, Verdict.SAFE), (FrozenDeepAttention, None)])
def test_a_slow_module_has_a_verdict(target: type[nn.Module], verdict: Verdict | None) -> None:
    call = find_working_call(target, TargetKind.MODULE, "cpu", {}, 60.0, ShimLog())
    assert call.spec.directional
    report = measure_along_directions(call.make_call(), call.spec, "the call")
    assert report.verdict is verdict if verdict else report.verdict.unsafe


def test_a_fast_module_is_measured_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TOO_SLOW", 0.0)
    monkeypatch.setattr(search, "time_call", lambda found: -1.0)
    call = find_working_call(DeepAttention, TargetKind.MODULE, "cpu", {}, 60.0, ShimLog())
    assert not call.spec.directional
