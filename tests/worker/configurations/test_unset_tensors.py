"""Branches behind arguments that are None by default are run: memories, positions, scores, one or several at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.confirm.confirm import Confirmation
from theria_lint.reasons import ReasonCode
from theria_lint.worker.find_call.unset_tensors import group_names, read_conditions

FUNCTIONS = {
    "joined_attention": (
        "past_k=None, past_v=None",
        "if past_k is not None:\n        k, v = torch.cat([past_k, k], -2).detach(), torch.cat([past_v, v], -2)",
    ),
    "stacked_attention": (
        "kv_cache=None",
        "if kv_cache is not None:\n        pk, pv = kv_cache.unbind(0)\n"
        "        k, v = torch.cat([pk, k], -2).detach(), torch.cat([pv, v], -2)",
    ),
    "tuple_attention": (
        "cache=None",
        "if cache is not None:\n        k, v = torch.cat([cache[0], k], -2), torch.cat([cache[1], v], -2).detach()",
    ),
    "modified_attention": (
        "score_mod: Optional[Callable] = None",
        "if score_mod is not None:\n        return score_mod((q @ k.mT).detach(), 0, 0).softmax(-1) @ v",
    ),
    "moded_attention": (
        "rel=None, mode='none'",
        "if mode == 'mul' and rel is not None:\n        return (q @ k.mT * rel).softmax(-1) @ v\n"
        "    if mode == 'add' and rel is not None:\n        return ((q @ k.mT).detach() + rel).softmax(-1) @ v",
    ),
}
LAYERS = {
    "Depth": (
        "K_depth=None, V_depth=None",
        "if K_depth is not None and V_depth is not None:\n"
        "            k, v = torch.cat([k, K_depth], 2).detach(), torch.cat([v, V_depth], 2)",
    ),
    "Mapping": (
        "layer_cache: Optional[Dict[str, torch.Tensor]] = None",
        'if layer_cache is not None:\n            k = torch.cat([layer_cache["k"], k], 2).detach()\n'
        '            v = torch.cat([layer_cache["v"], v], 2)',
    ),
    "Growing": (
        "past_key_values=None",
        "if exists(past_key_values):\n            k, v = past_key_values.update(k, v, 0)\n            k = k.detach()",
    ),
    "Written": (
        "cache_k=None, cache_v=None",
        "if cache_k is not None and cache_v is not None:\n"
        "            cache_k[:, :, :k.shape[2]], cache_v[:, :, :k.shape[2]] = k.detach(), v\n"
        "            k, v = cache_k, cache_v",
    ),
    "Residual": ("v1=None", "if v1 is not None:\n            v = v.data + v1"),
    "Positioned": (
        "query_pos=None, key_pos=None",
        "if query_pos is not None and key_pos is not None:\n"
        "            q, k = (q + query_pos[None]).detach(), k + key_pos",
    ),
}
KERNEL = "\n\ndef {name}(q, k, v, {arguments}):\n    {branch}\n    return (q @ k.mT / 3).softmax(-1) @ v\n"
LAYER = """

class {name}Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv, self.out = nn.Linear(dim, 96), nn.Linear(32, dim)

    def forward(self, x, {arguments}):
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        {branch}
        return self.out(((q @ k.mT / 3).softmax(-1) @ v).transpose(1, 2).flatten(2))
"""
HEAD = """from typing import Callable, Dict, Optional

import torch
from torch import nn


def exists(v):
    return v is not None
"""
UNSAFE = [*FUNCTIONS, *(f"{name}Attention" for name in LAYERS)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    kernels = [KERNEL.format(name=name, arguments=a, branch=branch) for name, (a, branch) in FUNCTIONS.items()]
    layers = [LAYER.format(name=name, arguments=a, branch=branch) for name, (a, branch) in LAYERS.items()]
    return confirm_source(tmp_path_factory.mktemp("unset"), HEAD + "".join([*kernels, *layers]), device="cpu")


@pytest.mark.parametrize("name", UNSAFE)
def test_a_branch_behind_what_is_none_by_default_is_run(found: Confirmation, name: str) -> None:
    assert target_of(found, name).verdict.unsafe, target_of(found, name).reason
    told = [f.disposition for f in found.findings if f.suspect.symbol.partition(".")[0] == name]
    assert told == ["confirmed"]


# What each of these detaches is right: the branch is run, and its suspect cleared.
RIGHT_FUNCTIONS = {
    "together_attention": (
        "past_k=None, past_v=None",
        "if (past_k is None) != (past_v is None):\n        raise ValueError('both or none')\n"
        "    if past_k is not None:\n        k, v = torch.cat([past_k, k], -2), torch.cat([past_v, v], -2)\n"
        "        k = k - k.mean().detach() * 0",
    ),
    "constant_attention": (
        "past_k=None, past_v=None",
        "if past_k is not None:\n        k, v = torch.cat([past_k.detach(), k], -2), torch.cat([past_v, v], -2)",
    ),
    "replaced_attention": (
        "cached_k=None, cached_v=None",
        "if cached_k is not None:\n        k, v = cached_k, cached_v.detach()",
    ),
    "noisy_attention": (
        "noise=None",
        "if noise is not None:\n        return (q @ k.mT + noise.detach()).softmax(-1) @ v",
    ),
    "capped_attention": (
        "logit_cap=None",
        "if logit_cap is not None:\n        s = Capped.apply(q @ k.mT, logit_cap)\n"
        "        return (s - s.amax(-1, keepdim=True).detach()).softmax(-1) @ v",
    ),
}
RIGHT_LAYERS = {
    "Watched": (
        "on_scores: Optional[Callable] = None",
        "if on_scores is not None:\n            on_scores((q @ k.mT).detach())",
    ),
    "Bounded": (
        "mems=None",
        "if mems is not None:\n            pk, pv = mems\n"
        "            k, v = torch.cat([pk[:, :, -3:].detach(), k], 2), torch.cat([pv[:, :, -3:], v], 2)",
    ),
    "Incremental": (
        "state: Optional[Dict[str, torch.Tensor]] = None",
        'if state is not None:\n            if "key" in state:\n'
        '                k = torch.cat([state["key"].detach(), k], 2)\n'
        '                v = torch.cat([state["value"], v], 2)\n'
        '            state["key"], state["value"] = k, v',
    ),
}
CAPPED = """

class Capped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, cap):
        ctx.save_for_backward(x)
        ctx.cap = cap
        return cap * torch.tanh(x / cap)

    @staticmethod
    def backward(ctx, g):
        return g * (1 - torch.tanh(ctx.saved_tensors[0] / ctx.cap) ** 2), None
"""


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    kernels = [KERNEL.format(name=name, arguments=a, branch=branch) for name, (a, branch) in RIGHT_FUNCTIONS.items()]
    layers = [LAYER.format(name=name, arguments=a, branch=branch) for name, (a, branch) in RIGHT_LAYERS.items()]
    source = "".join([HEAD, CAPPED, *kernels, *layers])
    return confirm_source(tmp_path_factory.mktemp("right"), source, device="cpu")


@pytest.mark.parametrize("name", [*RIGHT_FUNCTIONS, *(f"{name}Attention" for name in RIGHT_LAYERS)])
def test_what_is_right_with_a_call_that_was_made_up_stays_safe(right: Confirmation, name: str) -> None:
    """Memories and noise are constants by their author's word, a cap may be a number, caches go together."""
    assert target_of(right, name).verdict == "safe", target_of(right, name).reason
    told = [f.disposition for f in right.findings if f.suspect.symbol.partition(".")[0] == name]
    assert told == ["cleared"]


def test_what_attends_to_a_memory_alone_is_not_safe_by_its_defaults(tmp_path: Path) -> None:
    source = """
import torch


def attention(q, k, v, past_k=None, past_v=None):
    if past_k is not None:
        return (q @ torch.cat([past_k, k], -2).mT).softmax(-1) @ torch.cat([past_v, v], -2)
    return (q - q) + (k - k).sum() + (v - v).sum()
"""
    target = target_of(confirm_source(tmp_path, source, device="cpu"), "attention")
    assert target.verdict == "inconclusive"
    assert target.reason.code == ReasonCode.SAFE_OTHERWISE
    assert target.reason.data["configurations"] == ["optional_arguments: past_k, past_v"]


NUMBERS = """
import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, dim, {argument}=None):
        super().__init__()
        self.qkv, self.number = nn.Linear(dim, 3 * dim), {name}

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        s = q @ k.mT
        if self.number{asked}:
            s = {change}
        return s.softmax(-1) @ v
"""


@pytest.mark.parametrize(
    ("argument", "asked", "change"),
    [
        pytest.param("logit_cap: float | None", " is not None", "s.clamp(-self.number, self.number).data", id="float"),
        pytest.param("clip", " is not None", "(s / self.number).tanh().detach() * self.number", id="computed with"),
        pytest.param("max_past", "", "s.tril(self.number).detach()", id="a count by its name"),
    ],
)
def test_a_number_that_is_none_by_default_is_a_flag(tmp_path: Path, argument: str, asked: str, change: str) -> None:
    name = argument.partition(":")[0]
    found = confirm_source(tmp_path, NUMBERS.format(argument=argument, name=name, asked=asked, change=change))
    assert [finding.disposition for finding in found.findings] == ["confirmed"]


@pytest.mark.parametrize(
    ("code", "groups"),
    [
        ("if past_keys: pass", [("past_keys", "past_values"), ("past_keys",)]),
        ("if prev is not None: s = s + prev * gate", [("prev", "gate"), ("prev",)]),
        ("if record.prev is not None: s = s + record.prev * record.gate", [("prev", "gate"), ("prev",)]),
        ("x = prev if exists(prev) else y", [("prev",)]),
        ("y = prev", []),
        ("if prev is None: raise ValueError", [("prev",)]),
    ],
)
def test_arguments_go_together_by_their_names_or_by_what_guards_them(code: str, groups: list[tuple[str, ...]]) -> None:
    unset = ("past_keys", "past_values", "prev", "gate")
    assert group_names(read_conditions(ast.parse(code), unset), unset) == groups
