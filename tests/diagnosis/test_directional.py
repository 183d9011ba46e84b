"""Differences along a direction judge only where they are sure."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from theria.diagnosis.directional import DirectionalProbe
from theria.verdicts import Ground, Verdict


class SteepCall:
    """Layers of tanh in float32 between float64: the steeper, the shorter the steps along which it is not flat."""

    def __init__(self, steepness: float, seed: int, *, cut: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.module = nn.Module()
        self.inputs = {"x": torch.randn(4, 64, generator=generator, dtype=torch.float64)}
        self.weights = torch.randn(64, 64, generator=generator) / 8
        self.steepness, self.cut = steepness, cut

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        x = inputs[0].float()
        for _ in range(3):
            x = torch.tanh(self.steepness * (x @ self.weights))
        return ((x.detach() if self.cut else x) * inputs[0]).double()


@pytest.mark.parametrize("steepness", [4.0, 12.0])
def test_what_is_too_steep_for_differences_is_not_called_unsafe(steepness: float) -> None:
    found = {DirectionalProbe(SteepCall(steepness, seed), seed).measure().verdict for seed in range(20)}
    assert not any(verdict.unsafe for verdict in found), found


@pytest.mark.parametrize(("cut", "wanted"), [(False, Verdict.SAFE), (True, Verdict.SILENT_COLLAPSE)])
def test_what_is_smooth_is_judged(cut: bool, wanted: Verdict) -> None:
    found = [DirectionalProbe(SteepCall(1.0, seed, cut=cut), seed).measure().verdict for seed in range(10)]
    assert found == [wanted] * 10


class LackingCall:
    """It is out of memory in its forward, or where it is differentiated for the first or the second time."""

    def __init__(self, order: int) -> None:
        self.module = nn.Module()
        self.inputs = {"x": torch.randn(3, dtype=torch.float64)}
        self.order = order

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        value = inputs[0].exp()
        if self.order == 1:
            value.register_hook(self.fail)
        if self.order == 2:
            value.register_hook(lambda gradient: self.watch(gradient * inputs[0].cos()))
        return value

    def watch(self, gradient: Tensor) -> Tensor:
        if gradient.requires_grad:
            gradient.register_hook(self.fail)
        return gradient

    @staticmethod
    def fail(gradient: Tensor) -> Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried much")


@pytest.mark.parametrize("order", [1, 2])
def test_what_the_machine_lacks_room_for_is_not_called_unsafe(order: int) -> None:
    found = DirectionalProbe(LackingCall(order), 0).measure()
    assert (found.verdict, found.reason.code) == (Verdict.INCONCLUSIVE, Ground.RAISED)
