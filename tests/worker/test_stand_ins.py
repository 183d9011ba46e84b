"""Suspects that no rewrite neutralises, told apart by stand-ins; and stand-ins themselves, against plain autograd."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.confirming import confirm_source
from theria_lint.report.sentences import say
from theria_lint.worker.autograd_substitutes import ForwardAutograd, RegraphedSave, mark_kept


class Saving(torch.autograd.Function, metaclass=RegraphedSave):
    """Keeps the weights in two ways, and squares its input off the graph in between."""

    @staticmethod
    def forward(ctx, s, power):
        p = s.softmax(-1)
        ctx.save_for_backward(s, mark_kept(p))
        ctx.power = power
        ctx.pair = (power, mark_kept(p.detach() ** power))
        return p**power

    @staticmethod
    def backward(ctx, g):
        _, p = ctx.saved_tensors
        power, q = ctx.pair
        dp = g * power * q / p
        return p * (dp - (dp * p).sum(-1, keepdim=True)), None


class SavingInSetup(Saving):
    """The same with ``setup_context``."""

    @staticmethod
    def forward(s, power):
        return s.softmax(-1) ** power

    @staticmethod
    def setup_context(ctx, inputs, output):
        s, power = inputs
        p = s.softmax(-1)
        ctx.save_for_backward(s, mark_kept(p))
        ctx.pair = (power, mark_kept(p**power))


class Opaque(torch.autograd.Function, metaclass=ForwardAutograd):
    """No backward to speak of, and a forward that switches recording off."""

    @staticmethod
    @torch.no_grad()
    def forward(ctx, s, power):
        p = s.detach().softmax(-1)
        ctx.mark_non_differentiable(p)
        ctx.save_for_backward(p.data)
        return p**power

    @staticmethod
    def backward(ctx, g):
        raise RuntimeError("never run")


@pytest.mark.parametrize("function", [Saving, SavingInSetup, Opaque])
def test_a_stand_in_has_the_derivatives_of_the_forward(function):
    s = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def run(s: Tensor) -> Tensor:
        return function.apply(s, 3)

    assert torch.equal(run(s), s.softmax(-1) ** 3)
    assert torch.autograd.gradcheck(run, (s,))
    assert torch.autograd.gradgradcheck(run, (s,))


def test_what_is_not_marked_stays_off_the_graph():
    class Unmarked(torch.autograd.Function, metaclass=RegraphedSave):
        @staticmethod
        def forward(ctx, x):
            y = x**2
            ctx.save_for_backward(x, y)
            return x**3

        @staticmethod
        def backward(ctx, g):
            return 3 * g * ctx.saved_tensors[1]

    x = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(Unmarked.apply(x), x, create_graph=True)
    assert float(g.detach()) == 12.0
    assert not g.requires_grad


def test_what_a_backward_is_decorated_with_stays():
    class Guarded(torch.autograd.Function, metaclass=RegraphedSave):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(mark_kept(x**2))
            return x**3

        @staticmethod
        @torch.no_grad()
        def backward(ctx, g):
            return 3 * g * ctx.saved_tensors[0]

    x = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(Guarded.apply(x), x, create_graph=True)
    assert not g.requires_grad


HARMLESS_AND_HARMFUL = """
import numpy
import torch


class Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k):
        ctx.save_for_backward(q, k)
        return q @ k.mT / q.shape[-1] ** 0.5

    @staticmethod
    def backward(ctx, g):
        q, k = ctx.saved_tensors
        dq = torch.from_numpy(numpy.matmul(g.detach().numpy(), k.detach().numpy())) / q.shape[-1] ** 0.5
        return dq, g.mT @ q / q.shape[-1] ** 0.5


class Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, s):
        m = s.amax(-1, keepdim=True)
        lse = s.logsumexp(-1, keepdim=True)
        ctx.save_for_backward(s, m, lse)
        return (s - lse).exp()

    @staticmethod
    def backward(ctx, g):
        s, m, lse = ctx.saved_tensors
        p, w = (s - m).softmax(-1), (s - lse).exp()
        return p * (g - (g * w).sum(-1, keepdim=True))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        with torch.no_grad():
            return 2 * g


def attention(q, k, v):
    return Weights.apply(Scores.apply(Doubled.apply(q), k)) @ v
"""


def test_an_opaque_backward_and_what_is_saved_are_ruled_on_one_by_one(tmp_path: Path) -> None:
    found = confirm_source(tmp_path, HARMLESS_AND_HARMFUL, device="cpu")
    lines = HARMLESS_AND_HARMFUL.splitlines()
    says = {}
    for finding in found.findings:
        span = finding.suspect.span
        says[finding.suspect.rule, lines[span.line - 1][span.column - 1 : span.end_column - 1]] = finding
    dispositions = {key: str(finding.disposition) for key, finding in says.items() if key[0] != "THL002"}
    assert dispositions == {
        ("THL004", "numpy.matmul(g.detach().numpy(), k.detach().numpy())"): "confirmed",
        ("THL005", "m"): "cleared",
        ("THL005", "lse"): "confirmed",
        ("THL001", "torch.no_grad()"): "confirmed",
    }
    assert "computed again on the graph" in say(says["THL005", "lse"].reason)
    assert not any(finding.rewrite for finding in says.values())
    hidden = [f for f in found.findings if f.suspect.rule == "THL002"]
    assert {str(f.disposition) for f in hidden} == {"unconfirmed"}
