"""Recorded calls that are slow are made smaller where the target allows it, and measured along directions elsewhere."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from theria.probes.point import trial
from theria.verdicts import Ground, Verdict
from theria_lint.calls.call_tree import TreeWriter
from theria_lint.calls.constructions import Built
from theria_lint.model import TargetKind
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.worker.along_directions import measure_along_directions
from theria_lint.worker.find_call import replay_sizes, run_trial, search
from theria_lint.worker.find_call.call_strategy import CallStrategy, TrialSpec
from theria_lint.worker.find_call.replayed_call import cut_tensor
from theria_lint.worker.find_call.run_trial import CallSearch, CannotCallError, WorkingCall
from theria_lint.worker.find_call.search import find_working_call
from theria_lint.worker.parameter_vector import PARAMETERS
from theria_lint.worker.shims.shim_log import ShimLog


def replay(target: Any, *args: Any, constructor: tuple[Any, ...] | None = None) -> WorkingCall:
    """The working call of a target whose call was recorded."""
    kind = TargetKind.FUNCTION if constructor is None else TargetKind.MODULE
    return replay_all(target, kind, describe_call(*args, constructor=constructor))


def describe_call(*args: Any, constructor: tuple[Any, ...] | None = None, built: Built | None = None) -> dict[str, Any]:
    """A recorded call, with its tensors; ``built``: what modules among its arguments were built with."""
    writer = TreeWriter(lambda module: built, "")
    document = {"caller": "here", "constructor": None, "training": True, **writer.write_arguments(args, {})}
    if constructor is not None:
        document["constructor"] = writer.write_arguments(constructor, {})
    return {"document": document, "tensors": base64.b64encode(save(writer.tensors)).decode()}


def replay_all(target: Any, kind: TargetKind, *calls: Mapping[str, Any]) -> WorkingCall:
    """The working call of a target whose calls were recorded."""
    return find_working_call(target, kind, "cpu", {"calls": calls, "guess": False}, 60.0, ShimLog())


def attend(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, table: Tensor, longest: int) -> Tensor:
    assert q.shape[2] == k.shape[2] == longest
    assert lengths.shape[0] == q.shape[0]
    assert int(lengths.max()) == longest
    outside = torch.arange(longest) >= lengths[:, None]
    scores = (q @ k.transpose(-1, -2) + table[None, None]).masked_fill(outside[:, None, None], -1e9)
    return scores.softmax(-1) @ v


class PlacedAttention(nn.Module):
    """Its length is built in; ``cut`` takes the weights out of the graph."""

    def __init__(self, length: int, cut: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.place = nn.Parameter(torch.randn(length, 16))
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x + self.place).chunk(3, -1)
        weights = (q @ k.transpose(-1, -2)).softmax(-1)
        return (weights.detach() if self.cut else weights) @ v


class FixedAttention(PlacedAttention):
    """Its length is none of its arguments."""

    def __init__(self, cut: bool) -> None:
        super().__init__(40, cut)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call is too slow to be measured as it is."""
    monkeypatch.setattr(replay_sizes, "FAST", -1.0)  # processor clocks stand still for a while
    monkeypatch.setattr(replay_sizes, "SLOW", 60.0)


def test_axes_of_a_size_are_cut_alike_with_the_numbers_that_go_with_them(slow: None) -> None:
    q, table = torch.randn(3, 2, 64, 16), torch.randn(64, 64)
    found = replay(attend, q, q, q, torch.tensor([64, 20, 64]), table, 64)
    assert found.spec.cut == {64: 8}
    assert not found.spec.directional
    made = found.make_call()
    assert {name: tuple(tensor.shape) for name, tensor in made.inputs.items()} == {
        "q": (3, 2, 8, 16),
        "k": (3, 2, 8, 16),
        "v": (3, 2, 8, 16),
        "table": (8, 8),
    }


def test_a_fast_call_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_sizes, "FAST", 5.0)
    q = torch.randn(1, 2, 10, 4)
    found = replay(attend, q, q, q, torch.tensor([10]), torch.randn(10, 10), 10)
    assert (dict(found.spec.cut), found.spec.directional) == ({}, False)


@pytest.mark.parametrize(("cut", "verdict"), [(False, Verdict.SAFE), (True, Verdict.SILENT_COLLAPSE)])
def test_what_bears_no_cut_is_measured_along_directions(
    slow: None, monkeypatch: pytest.MonkeyPatch, cut: bool, verdict: Verdict
) -> None:
    monkeypatch.setattr(replay_sizes, "SLOW", -1.0)
    found = replay(FixedAttention, torch.randn(2, 40, 16), constructor=(cut,))
    assert (dict(found.spec.cut), found.spec.directional) == ({}, True)
    report = measure_along_directions(found.make_call(), found.spec, "the call")
    assert report.verdict.unsafe is verdict.unsafe


def test_one_key_tells_nothing_along_directions_either(slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weight is 1 whatever q and k are, and what an author has detached is not seen."""
    monkeypatch.setattr(replay_sizes, "SLOW", -1.0)

    def attend_frozen(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.transpose(-1, -2)).detach().softmax(-1) @ v

    found = replay(attend_frozen, torch.randn(2, 1, 3), torch.randn(2, 1, 3), torch.randn(2, 1, 3))
    report = measure_along_directions(found.make_call(), found.spec, "the call")
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.why == Reason(Ground.NO_DEPENDENCE, {"inputs": ["q", "k"]})


def test_the_numbers_of_a_constructor_are_cut_where_that_of_arguments_alone_does_not_do(
    slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_sizes, "time_call", lambda found: 1.0 if not found.spec.cut else 0.5)
    found = replay(PlacedAttention, torch.randn(2, 40, 16), constructor=(40, False))
    assert (dict(found.spec.cut), found.spec.directional) == ({40: 8}, False)
    assert found.make_call().inputs["x"].shape == (2, 8, 16)


class WideAttention(nn.Module):
    """Its weights take longer than its inputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v


def test_widths_are_cut_where_a_short_sequence_is_still_slow(slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_sizes, "SLOW", 0.5)
    monkeypatch.setattr(replay_sizes, "time_call", lambda found: 0.1 if 64 in found.spec.cut else 1.0)
    found = replay(WideAttention, torch.randn(2, 40, 64), constructor=(64,))
    assert (dict(found.spec.cut), found.spec.directional) == ({64: 8, 40: 8}, False)


class _Loud(torch.autograd.Function):
    """Has no backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise NotImplementedError("no backward")


class LoudAttention(WideAttention):
    """Cannot be differentiated."""

    def forward(self, x: Tensor) -> Tensor:
        return _Loud.apply(super().forward(x))  # type: ignore[no-any-return, no-untyped-call]


def test_a_backward_that_raises_is_for_the_probe_to_tell() -> None:
    recorded = replay(LoudAttention, torch.randn(2, 5, 16), constructor=(16,))
    guessed = find_working_call(LoudAttention, TargetKind.MODULE, "cpu", {}, 60.0, ShimLog())
    for found in (recorded, guessed):
        assert measure_along_directions(found.make_call(), found.spec, "the call").verdict is Verdict.HARD_STRUCTURAL


class HeavyAttention(WideAttention):
    """The gradient of its weights takes long where they are wide."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.qkv.weight.register_hook(self.wait)

    def wait(self, gradient: Tensor) -> None:
        end = time.process_time() + 2 * replay_sizes.FAST
        while gradient.shape[1] > 16 and time.process_time() < end:
            pass


def test_widths_are_cut_where_parameters_take_long_to_differentiate_in() -> None:
    """Parameters are measured with the inputs: that a call is fast in its inputs alone is not enough."""
    found = replay(HeavyAttention, torch.randn(2, 4, 64), constructor=(64,))
    assert found.spec.cut[64] <= 16


def test_a_wide_module_is_never_built_at_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a docstring shows: a single attempt would take all the time there is."""
    built = []

    class Wide(WideAttention):
        def __init__(self, width: int) -> None:
            super().__init__(width)
            built.append(width)

    monkeypatch.setattr(replay_sizes, "WIDE", 64)
    monkeypatch.setattr(replay_sizes, "NARROW", 16)
    found = replay(Wide, torch.randn(2, 4, 64), constructor=(64,))
    assert found.spec.cut[64] <= 16
    assert set(built) <= {4, 8, 16}


class TokenAttention(nn.Module):
    """It looks its inputs up in a table."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, 8)
        self.head = nn.Linear(8, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        return self.head((x @ x.mT).softmax(-1) @ x)


def test_a_table_is_cut_where_a_call_is_slow_for_its_length(slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_sizes, "SLOW", 0.5)
    monkeypatch.setattr(replay_sizes, "time_call", lambda found: 0.01 if 8192 in found.spec.cut else 1.0)
    found = replay(TokenAttention, torch.arange(8192 - 40, 8192).view(1, 40), constructor=(8192,))
    assert (dict(found.spec.cut), found.spec.directional) == ({40: 8, 8192: 128}, False)
    assert found.make_call().inputs[PARAMETERS].shape == (128 * 8 + 128 * 9,)


def test_along_directions_too_a_call_is_as_small_as_it_can_be(slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_sizes, "SLOW", -1.0)
    times = iter((3.0, 2.0, 1.0))
    monkeypatch.setattr(replay_sizes, "time_call", lambda found: next(times))
    monkeypatch.setattr(replay_sizes, "FACTORS", (4,))
    found = replay(PlacedAttention, torch.randn(2, 40, 16), constructor=(40, False))
    assert (dict(found.spec.cut), found.spec.directional) == ({40: 10}, True)


def test_dropout_is_the_same_in_every_call() -> None:
    class Dropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(4, 12)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            return nn.functional.dropout((q @ k.transpose(-1, -2)).softmax(-1), 0.5, self.training) @ v

    found = replay(Dropped, torch.randn(2, 20, 4), constructor=())
    made = found.make_call()
    first, second = (trial(made.compute_output, made.inputs, 0) for _ in range(2))
    assert torch.equal(first, second)


def test_a_cut_that_takes_another_path_is_not_made(slow: None) -> None:
    def attend_in_chunks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q @ k.transpose(-1, -2)).softmax(-1)
        return weights @ v if q.shape[1] >= 40 else (weights @ v).tanh()

    found = replay(attend_in_chunks, *(torch.randn(2, 80, 16) for _ in range(3)))
    assert found.spec.cut == {80: 40}


CUTS: dict[str, tuple[list[int], list[int]]] = {
    "ends of packed sequences": ([0, 16, 40, 64], [0, 2, 5, 8]),
    "lengths": ([64, 20, 3], [8, 8, 3]),
    "places": ([0, 5, 63], [0, 5, 7]),
    "what counts something else": ([700, 3], [700, 3]),
}


@pytest.mark.parametrize("name", CUTS)
def test_whole_numbers_are_cut_along(name: str) -> None:
    before, after = CUTS[name]
    assert cut_tensor(torch.tensor(before), {64: 8}).tolist() == after


def test_a_mask_keeps_its_corner() -> None:
    mask = torch.ones(1, 64, 64, dtype=torch.bool).tril()
    assert torch.equal(cut_tensor(mask, {64: 8})[0], torch.ones(8, 8, dtype=torch.bool).tril())


def attend_plainly(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v


def test_a_call_that_works_is_kept_where_no_time_is_left_to_make_it_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    run_one = CallSearch.run_trial

    def run_whole_trial(of: CallSearch, strategy: CallStrategy, spec: TrialSpec) -> WorkingCall | None:
        if spec.cut:
            raise of.make_cannot_call_error(ReasonCode.SEARCH_TOO_SLOW)
        return run_one(of, strategy, spec)

    monkeypatch.setattr(CallSearch, "run_trial", run_whole_trial)
    monkeypatch.setattr(replay_sizes, "time_call", lambda found: 1.0)
    found = replay(attend_plainly, *torch.randn(3, 2, 2, 64, 4).unbind())
    assert found.spec.directional
    assert not found.spec.cut


def test_the_size_that_is_fast_enough_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    run_one = CallSearch.run_trial

    def note_trial(of: CallSearch, strategy: CallStrategy, spec: TrialSpec) -> WorkingCall | None:
        tried.append(dict(spec.cut))
        return run_one(of, strategy, spec)

    monkeypatch.setattr(CallSearch, "run_trial", note_trial)
    monkeypatch.setattr(replay_sizes, "time_call", lambda found: 0.001 if found.spec.cut else 0.1)
    replay(attend_plainly, *torch.randn(3, 2, 2, 256, 4).unbind())
    assert tried == [{}, {256: 32}]


def attend_where(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2)).masked_fill(~mask, -1e9).softmax(-1) @ v


def test_a_call_whose_mask_was_kept_in_part_is_made_at_the_size_of_that_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_sizes, "FAST", 60.0)
    q, mask = torch.randn(1, 2, 900, 4), torch.ones(900, 900, dtype=torch.bool).tril()
    found = replay(attend_where, q, q, q, mask)
    assert found.spec.cut == {900: 450}
    assert found.make_call().inputs["q"].shape == (1, 2, 450, 4)


def test_a_mask_kept_in_part_is_too_large_for_what_bears_no_cut() -> None:
    class Masked(nn.Module):
        def __init__(self, mask: Tensor) -> None:
            super().__init__()
            self.mask = mask

        def forward(self, q: Tensor) -> Tensor:
            return attend_where(q, q, q, self.mask)

    mask = torch.ones(900, 900, dtype=torch.bool).tril()
    with pytest.raises(CannotCallError) as caught:
        replay(Masked, torch.randn(1000, 4), constructor=(mask,))
    assert caught.value.reason.data["reason"].code is ReasonCode.TENSOR_TOO_LARGE


def test_what_is_not_masked_is_differentiated_in() -> None:
    scores = torch.randn(12, 12).masked_fill(torch.ones(12, 12, dtype=torch.bool).triu(1), float("-inf"))
    made = replay(lambda scores, v: scores.softmax(-1) @ v, scores, torch.randn(12, 4)).make_call()
    assert set(made.inputs) == {"scores", "v"}
    weights = made.inputs["scores"].masked_fill(scores.isinf(), float("-inf")).softmax(-1)
    assert torch.allclose(made.compute_output(*made.inputs.values()), weights @ made.inputs["v"])


def test_a_mask_is_no_input() -> None:
    mask = torch.zeros(12, 12).masked_fill(torch.ones(12, 12, dtype=torch.bool).triu(1), float("-inf"))
    made = replay(lambda scores, mask: (scores + mask).softmax(-1), torch.randn(12, 12), mask).make_call()
    assert set(made.inputs) == {"scores"}


@pytest.mark.parametrize("described", [True, False])
def test_a_call_for_which_there_is_no_room_is_made_smaller(monkeypatch: pytest.MonkeyPatch, described: bool) -> None:
    name_one = replay_sizes._name_operations

    def attend_in_a_small_room(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.shape[-2] > 100:
            raise MemoryError
        return attend_plainly(q, k, v)

    def name_small(found: WorkingCall, spec: TrialSpec) -> set[str] | None:
        return name_one(found, spec) if described or spec.cut[256] < 40 else None

    monkeypatch.setattr(replay_sizes, "_name_operations", name_small)
    monkeypatch.setattr(replay_sizes, "time_call", lambda found: 0.001 if found.spec.cut[256] < 40 else 0.1)
    found = replay(attend_in_a_small_room, *torch.randn(3, 2, 2, 256, 4).unbind())
    assert (dict(found.spec.cut), found.spec.directional) == ({256: 8}, False)


def test_weights_depend_on_nothing_but_the_seed() -> None:
    torch.manual_seed(1)
    outputs = []
    for _ in range(2):
        made = replay(WideAttention, torch.randn(2, 5, 8), constructor=(8,)).make_call()
        outputs.append(made.compute_output(torch.ones(2, 5, 8, dtype=torch.float64)))
    assert torch.equal(*outputs)


def test_numbers_that_are_all_the_same_are_moved_apart() -> None:
    def add_bias(scores: Tensor, scale: Tensor) -> Tensor:
        return scores + torch.arange(4) * scale

    made = replay(add_bias, torch.zeros(2, 3, 4), torch.tensor(0.25)).make_call()
    assert len(made.inputs["scores"].unique()) == 24
    assert float(made.inputs["scale"]) == 0.25


@pytest.mark.parametrize(("seconds", "settled"), [(1.0, 3), (20.0, 1)])
def test_other_calls_are_settled_while_the_first_can_still_be_measured(
    monkeypatch: pytest.MonkeyPatch, seconds: float, settled: int
) -> None:
    now = [0.0]

    def settle_slowly(of: CallSearch, found: WorkingCall, document: Mapping[str, Any]) -> WorkingCall:
        now[0] += seconds
        return found

    for module in (search, run_trial):
        monkeypatch.setattr(module, "read_clock", lambda: now[0])
    monkeypatch.setattr(search, "settle_size", settle_slowly)
    calls = [describe_call(*torch.randn(3, 2, 2, length, 4).unbind()) for length in (5, 6, 7)]
    found = replay_all(attend_plainly, TargetKind.FUNCTION, *calls)
    assert len(found.strategy.specs) == settled
