"""Models that need images of some size: found late, built once for what refuses its arguments, and made narrow."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from theria.verdicts import Verdict
from theria_lint.model import Configuration, TargetKind
from theria_lint.worker.configurations.measure_configuration import Measuring
from theria_lint.worker.find_call import run_trial, search
from theria_lint.worker.find_call.call_strategy import CallStrategy, TrialSpec
from theria_lint.worker.find_call.run_trial import WorkingCall
from theria_lint.worker.find_call.search import find_working_call
from theria_lint.worker.shims.shim_log import ShimLog


def attend(q: Tensor, k: Tensor, v: Tensor, *, frozen: bool = False) -> Tensor:
    weights = (q @ k.mT).softmax(-1)
    return (weights.detach() if frozen else weights) @ v


class Pyramid(nn.Module):
    """Patches of four, then three stages, each half as wide: nothing is left of fourteen pixels."""

    def __init__(self, channels: int = 3, frozen: bool = False) -> None:
        super().__init__()
        self.frozen = frozen
        widths = [channels, 4, 4, 4, 4]
        steps = [4, 2, 2, 2]
        pairs = zip(widths[:-1], widths[1:], steps, strict=True)
        self.stages = nn.ModuleList(nn.Conv2d(before, after, step, step) for before, after, step in pairs)

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for stage in self.stages:
            x = stage(x)
            flat = x.flatten(2).mT
            x = x + attend(flat, flat, flat, frozen=self.frozen).mT.unflatten(2, x.shape[2:])
        return x


class ColourImages(Pyramid):
    """Takes images of three channels, whatever its own width."""

    def __init__(self, dim: int, image_size: int) -> None:
        super().__init__(3)
        self.out = nn.Linear(4 * max(1, image_size // 32) ** 2, dim)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.out(super().forward(image).flatten(1))
        return found


class FrozenPyramid(Pyramid):
    """Loses what its weights depend on."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels, frozen=True)


class SmallWindows(nn.Module):
    """Takes images of any size."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        q, k, v = (part.flatten(2).mT for part in self.qkv(image).chunk(3, 1))
        return attend(q, k, v)


class Counted(Pyramid):
    """Counts how often it is built, and remembers the images that it refused."""

    built = 0

    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels)
        type(self).built += 1
        self.refused = 0
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        self.refused += 1
        self.seen += 1
        found = super().forward(image)
        self.refused = 0
        return found


class TokenModel(nn.Module):
    """Refuses everything."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        raise ValueError


class WideStages(nn.Module):
    """As slow as its layers are many and wide."""

    def __init__(self, channels: int = 3, dims=(32, 64), depths=(6, 4), heads=(1, 2)) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        before = (channels, *dims)
        self.heads, self.seconds = heads, sum(depths) / 1000 + min(dims) / 1000
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(before[:-1], dims, strict=True))
        self.dims, self.depths = dims, depths

    def forward(self, image: Tensor) -> Tensor:
        end = time.process_time() + self.seconds
        while time.process_time() < end:
            pass
        x = image
        for stage, heads in zip(self.stages, self.heads, strict=True):
            flat = stage(x).flatten(2).unflatten(1, (heads, -1)).mT
            x = attend(flat, flat, flat).mT.flatten(1, 2).unflatten(2, x.shape[2:])
        return x


def watch_attempts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[CallStrategy, TrialSpec]]:
    """What will have been tried."""
    attempts: list[tuple[CallStrategy, TrialSpec]] = []
    run = run_trial.CallSearch.run_trial

    def watched(self: Any, strategy: CallStrategy, spec: TrialSpec) -> WorkingCall | None:
        attempts.append((strategy, spec))
        return run(self, strategy, spec)

    monkeypatch.setattr(run_trial.CallSearch, "run_trial", watched)
    return attempts


def find(cls: Any, seconds: float = 20.0) -> WorkingCall:
    return find_working_call(cls, TargetKind.MODULE, "cpu", {}, seconds, ShimLog())


def read_sizes(call: WorkingCall) -> tuple[Any, Any]:
    made = call.make_call().module
    return made.dims, made.depths  # type: ignore[union-attr]


@pytest.mark.parametrize(("cls", "verdict"), [(Pyramid, Verdict.SAFE), (FrozenPyramid, None)])
def test_a_pyramid_is_given_an_image_that_is_large_enough(cls: Any, verdict: Verdict | None) -> None:
    call = find(cls)
    assert call.make_call().inputs["x"].shape[1:] == (3, 32, 32)
    report, _ = Measuring(call).measure_configuration(Configuration.FIRST_SIZES, call.spec)
    assert report.verdict is verdict if verdict else report.verdict.unsafe


def test_an_image_has_the_channels_that_a_convolution_wants() -> None:
    assert find(ColourImages).make_call().inputs["x"].shape[1:] == (3, 32, 32)


def test_an_image_stays_small_where_it_can() -> None:
    assert find(SmallWindows).make_call().inputs["x"].shape[1:] == (3, 4, 4)


def test_what_refuses_its_arguments_is_not_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = watch_attempts(monkeypatch)
    monkeypatch.setattr(Counted, "built", 0)
    made = find(Counted).make_call()
    assert Counted.built < len(attempts) / 2
    assert made.module is not None
    assert made.module.refused == 0
    assert float(made.module.seen) == 0.0  # type: ignore[arg-type]


def test_tokens_have_no_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = watch_attempts(monkeypatch)
    with pytest.raises(run_trial.CannotCallError):
        find(TokenModel, seconds=3.0)
    assert {spec.layout for strategy, spec in attempts if strategy.layoutless} == {"btd"}


def test_a_slow_model_has_fewer_and_narrower_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SLOW_CALL_SECONDS", 0.02)
    monkeypatch.setattr(search, "TOO_SLOW", 0.03)
    assert read_sizes(find(WideStages)) == ((4, 8), (2, 2))
    monkeypatch.setattr(search, "TOO_SLOW", 60.0)
    assert read_sizes(find(WideStages)) == ((32, 64), (2, 2))
    monkeypatch.setattr(search, "SLOW_CALL_SECONDS", 60.0)
    assert read_sizes(find(WideStages)) == ((32, 64), (6, 4))
