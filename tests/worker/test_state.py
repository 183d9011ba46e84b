"""Every evaluation begins with the state that the target started with; what a call leaves behind is tried apart."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn

from tests.support.confirming import confirm_source, target_of
from theria_lint.confirm.confirm import Confirmation
from theria_lint.worker.fresh_state import FreshCall

KERNELS = """
import torch
from torch import nn

CALLS = 0
CACHE = {}


def core(q, k, v):
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


def counting_attention(q, k, v):
    global CALLS
    CALLS += 1
    return core(q, k.detach() if CALLS > 1 else k, v)


def caching_attention(q, k, v):
    if "k" not in CACHE:
        CACHE["k"] = k.detach()
    return core(q, CACHE["k"], v)


def marking_attention(q, k, v):
    marking_attention.called = getattr(marking_attention, "called", 0) + 1
    return core(q, k.detach() if marking_attention.called > 1 else k, v)


class Attention(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.calls, self.past = 0, []
        self.register_buffer("mean", torch.ones(dim))


class SecondAttention(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        self.calls += 1
        return core(q, k.detach() if self.calls > 1 else k, v)


class FirstAttention(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        self.calls += 1
        return core(q, k.detach() if self.calls == 1 else k, v)


class BufferAttention(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        self.mean.data[:] = 1 + k.square().mean((0, 1))
        return core(q, k / self.mean, v)


class GrowingAttention(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        self.past.append((k.detach(), v.detach()))
        keys, values = (torch.cat([*(pair[i] for pair in self.past[:-1]), new], 1) for i, new in ((0, k), (1, v)))
        return core(q, keys, values)


class AveragingAttention(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * k.mean((0, 1)))
        return core(q, k, v)
"""
UNSAFE = [
    *("counting_attention", "caching_attention", "marking_attention"),
    *("SecondAttention", "FirstAttention", "BufferAttention"),
]
SAFE = ["core", "GrowingAttention", "AveragingAttention"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("state"), KERNELS, device="cpu")


@pytest.mark.parametrize("symbol", UNSAFE)
def test_what_a_call_remembers_is_seen(found: Confirmation, symbol: str) -> None:
    assert target_of(found, symbol).verdict.unsafe, target_of(found, symbol).reason


@pytest.mark.parametrize("symbol", SAFE)
def test_memory_of_constants_does_no_harm(found: Confirmation, symbol: str) -> None:
    assert target_of(found, symbol).verdict == "safe", target_of(found, symbol).reason


class _Slope(nn.Module):
    """Reads the gradient that an inner ``.backward()`` adds to what its input holds of earlier ones."""

    def forward(self, x: Tensor) -> Tensor:
        (x**3).sum().backward()
        assert x.grad is not None
        return x.grad.clone()


def test_the_first_call_is_as_every_other() -> None:
    module = _Slope()
    call = FreshCall(module, module, __name__)
    first, second = (call(torch.full((2,), 1.0, requires_grad=True)) for _ in range(2))
    assert torch.equal(first, second)


CACHING = """
import torch
from torch import nn


class BiasedAttention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv, self.table, self.kept = nn.Linear(dim, 3 * dim), nn.Parameter(torch.randn(64) * 0.3), {}

    def compute_bias(self, length):
        return torch.tanh(self.table[torch.arange(length).sub(length - 1).neg()])

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.mT + self.find_bias(x.shape[-2])).softmax(-1) @ v


class CachingAttention(BiasedAttention):
    def find_bias(self, length):
        if length not in self.kept:
            self.kept[length] = self.compute_bias(length)
        return self.kept[length]


class PlaceCachingAttention(BiasedAttention):
    def find_bias(self, length):
        if length not in self.kept:
            self.kept[length] = torch.arange(length)
        return torch.tanh(self.table[self.kept[length]])
"""


KEPT_ELSEWHERE = (
    CACHING
    + """

import weakref
from functools import cache, lru_cache


@lru_cache(maxsize=None)
def make_bias(table, length):
    return torch.tanh(table[torch.arange(length).sub(length - 1).neg()])


@cache
def list_places(length):
    return torch.arange(length)


def memoize(function):
    kept = {}

    def wrapper(length, owner):
        if length not in kept:
            kept[length] = function(length, owner)
        return kept[length]

    return wrapper


@memoize
def remember_bias(length, owner):
    return owner.compute_bias(length)


@memoize
def remember_places(length, owner):
    return torch.arange(length)


BY_OWNER = weakref.WeakKeyDictionary()


class BiasByTensorAttention(BiasedAttention):
    def find_bias(self, length):
        return make_bias(self.table, length)


class BiasByClosureAttention(BiasedAttention):
    def find_bias(self, length):
        return remember_bias(length, self)


class BiasByDefaultAttention(BiasedAttention):
    def find_bias(self, length, kept={}):
        return kept.setdefault(length, self.compute_bias(length)) if length not in kept else kept[length]


class BiasByOwnerAttention(BiasedAttention):
    def find_bias(self, length):
        if self not in BY_OWNER:
            BY_OWNER[self] = self.compute_bias(length)
        return BY_OWNER[self]


class BiasByInstanceAttention(BiasedAttention):
    def __init__(self, dim):
        super().__init__(dim)
        self.find_bias = lru_cache(maxsize=4)(self.compute_bias)


class PlacesByFunctionAttention(BiasedAttention):
    def find_bias(self, length):
        return torch.tanh(self.table[list_places(length)])


class PlacesByClosureAttention(BiasedAttention):
    def find_bias(self, length, kept={}):
        kept[length] = remember_places(length, self)
        return torch.tanh(self.table[kept[length]])


TABLE = nn.Parameter(torch.randn(64) * 0.3)


@lru_cache
def find_shared_bias(length):
    return torch.tanh(TABLE[torch.arange(length).sub(length - 1).neg()])


def attention_with_shared_bias(q, k, v):
    return (q @ k.mT + find_shared_bias(k.shape[-2])).softmax(-1) @ v


def attention_with_shared_places(q, k, v):
    return (q @ k.mT + torch.tanh(TABLE[list_places(k.shape[-2])])).softmax(-1) @ v
"""
)
BREAKING = [
    *("CachingAttention", "BiasByTensorAttention", "BiasByClosureAttention", "BiasByDefaultAttention"),
    *("BiasByOwnerAttention", "BiasByInstanceAttention", "attention_with_shared_bias"),
]
HARMLESS = [
    *("PlaceCachingAttention", "PlacesByFunctionAttention", "PlacesByClosureAttention", "attention_with_shared_places"),
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("kept"), KEPT_ELSEWHERE, device="cpu")


@pytest.mark.parametrize("symbol", BREAKING)
def test_what_is_kept_of_a_graph_is_of_no_use_to_the_next_step(kept: Confirmation, symbol: str) -> None:
    result = target_of(kept, symbol)
    assert result.verdict == "first_order_only", result.reason


@pytest.mark.parametrize("symbol", HARMLESS)
def test_what_is_kept_of_no_graph_does_no_harm(kept: Confirmation, symbol: str) -> None:
    assert target_of(kept, symbol).verdict == "safe", target_of(kept, symbol).reason


def test_closures_defaults_and_caches_begin_anew() -> None:
    seen: list[int] = []
    last = None

    def remember(x: Tensor, held: list[int] = [], *, named: list[int] = []) -> Tensor:  # noqa: B006
        nonlocal last
        counts = [len(seen), len(held), len(named), int(last is not None), count(1)]
        seen.append(1), held.append(1), named.append(1)
        last = x
        return x * sum(counts)

    @lru_cache
    def count(_: int) -> int:
        calls.append(1)
        return len(calls)

    calls: list[int] = []
    remember.__module__ = __name__
    module = nn.Module()
    module.run = remember
    call = FreshCall(lambda x: module.run(x), module, __name__)
    assert [call(torch.ones(())).item() for _ in range(3)] == [1.0, 1.0, 1.0]
