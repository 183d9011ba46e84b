"""Parameters that a backward runs with once more, and such as a forward writes into."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.confirming import confirm_source, finding_of, target_of
from theria_lint.confirm.confirm import Confirmation

KERNELS = """
import torch
from torch import nn


class Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run, x, *weights):
        ctx.run, ctx.x, ctx.weights = run, x, weights
        return run(x)

    @staticmethod
    def backward(ctx, grad):
        x = ctx.x.detach().requires_grad_()
        with torch.enable_grad():
            out = ctx.run(x)
        return None, *torch.autograd.grad(out, [x, *ctx.weights], grad, allow_unused=True)


class Attention(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)

    def run(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


class RecomputedAttention(Attention):
    def forward(self, x):
        return Again.apply(self.run, x, *self.parameters())


class WrittenAttention(Attention):
    def forward(self, x, slow_weight):
        with torch.no_grad():
            self.qkv.weight.copy_(slow_weight)
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("written"), KERNELS, device="cpu")


def test_a_backward_that_runs_a_module_again_finds_the_same_parameters(found: Confirmation) -> None:
    assert target_of(found, "RecomputedAttention").verdict == "silent_collapse"
    cuts = [f for f in found.findings if f.suspect.name == "inner-grad"]
    assert [cut.disposition for cut in cuts] == ["confirmed", "confirmed"]


def test_to_write_a_weight_off_the_graph_is_confirmed_by_writing_it_on_the_graph(found: Confirmation) -> None:
    assert target_of(found, "WrittenAttention").verdict == "hard_structural"
    line = KERNELS.split("\n").index("        with torch.no_grad():") + 1
    assert finding_of(found, "THL001", line).disposition == "confirmed"


SMALL = """
import torch
from torch import nn


class Bend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        ctx.save_for_backward(t.cos())
        return t + 0.5 * t.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 + 0.5 * ctx.saved_tensors[0])


class AgentAttention(nn.Module):
    def __init__(self, dim=16, agents=4):
        super().__init__()
        self.agents = nn.Parameter(0.02 * torch.randn(agents, dim))
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def bend(self, agents):
        return agents + 0.5 * agents.sin()

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        agents = self.bend(self.agents)
        gathered = torch.softmax(agents @ k.transpose(-2, -1) / 4, -1) @ v
        return self.out(torch.softmax(q @ agents.T / 4, -1) @ gathered)


class LossyAgentAttention(AgentAttention):
    def bend(self, agents):
        return Bend.apply(agents)
"""


def test_what_is_lost_in_a_small_parameter_does_not_drown_in_the_others(tmp_path: Path) -> None:
    found = confirm_source(tmp_path, SMALL)
    assert target_of(found, "AgentAttention").verdict == "safe"
    assert target_of(found, "LossyAgentAttention").verdict == "silent_corruption"
