"""What the configuration calls a target is one, and an entry that matches nothing is an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.lint_case import Lint
from theria_lint.model import TargetKind
from theria_lint.static.targets import find_targets

CODE = """\
import torch
from torch import nn


def mix(a, b):
    return (a * b).sum(-1).detach()


class Mixer(nn.Module):
    def forward(self, x):
        return x


class Ops:
    def __call__(self, a, b):
        return a * b

    @staticmethod
    def run(a, b):
        return a + b


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()


mixed = torch.compile(mix)
"""


@pytest.mark.parametrize(
    ("symbol", "kind"),
    [
        ("mix", TargetKind.FUNCTION),
        ("Mixer", TargetKind.MODULE),
        ("Ops", TargetKind.FUNCTION),
        ("Ops.run", TargetKind.FUNCTION),
        ("Round", TargetKind.AUTOGRAD_FUNCTION),
        ("mixed", TargetKind.FUNCTION),
    ],
)
def test_whatever_is_named_is_a_target(symbol: str, kind: TargetKind) -> None:
    assert find_targets("file.py", CODE) == ()
    (target,) = find_targets("file.py", CODE, [symbol])
    assert (target.symbol, target.kind) == (symbol, kind)
    assert symbol in target.reaches


def test_a_symbol_that_is_not_there_is_none() -> None:
    assert find_targets("file.py", CODE, ["other", "Mixer.other"]) == ()


def test_rules_apply_in_what_is_named(lint: Lint, folder: Path) -> None:
    (folder / "mixing.py").write_text(CODE)
    assert "0 suspects" in lint("mixing.py").output
    (folder / "theria-lint.toml").write_text('[[targets]]\ntarget = "mixing:mix"\n')
    assert "mixing.py:6:28: THL002" in lint("mixing.py").output


@pytest.mark.parametrize(
    ("linted", "target", "said"),
    [
        (".", "mixing:mix", ""),
        (".", "mix", ""),
        (".", "mixing:gone", "mixing.py: error: defines no `gone`, which the configuration calls a target\n"),
        ("mixing.py", "mixing:gone", 'target = "mixing:gone"\n'),
        (".", "away:gone", ".: error: defines no `gone`"),
        ("mixing.py", "away:gone", ""),
        (".", "gone", ".: error: defines no `gone`"),
        ("mixing.py", "gone", ""),
    ],
)
def test_an_entry_that_matches_nothing_is_an_error(
    lint: Lint, folder: Path, linted: str, target: str, said: str
) -> None:
    (folder / "mixing.py").write_text(CODE)
    (folder / "theria-lint.toml").write_text(f'timeout = 20\n[[targets]]\ntarget = "{target}"\nskip = true\n')
    found = lint(linted, confirm=True)
    assert said in found.output
    assert ("defines no" in found.output) == bool(said)
    assert not said or found.exit_code == 1


def test_what_is_seen_is_counted_where_nothing_is_run(lint: Lint, folder: Path) -> None:
    (folder / "a.py").write_text("import torch\ndef attention(q, k, v):\n    return (q @ k.mT).softmax(-1) @ v\n")
    (folder / "b.py").write_text("def add(a, b):\n    return a + b\n")
    assert lint(".").stdout == "2 files, 0 suspects; 1 target, not measured.\n"
    summary = json.loads(lint("--output-format", "json", ".").stdout)["summary"]
    assert (summary["targets"], summary["measured"]) == (1, 0)


BESIDE = """\
import functools
import torch
from torch import nn


class Retention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.chosen = self._by_default

    def forward(self, x, mode):
        return self.attend(x, x, x) + self.chosen(x, x, x)

    def attend(self, q, k, v):
        return (q @ k.mT).softmax(-1) @ v

    def _by_default(self, q, k, v):
        return (q @ k.mT).softmax(-1) @ v

    def forward_recurrent(self, q, k, v, state):
        return q @ (state + k.mT @ v)

    def step(self, x, cache):
        return self._in_chunks(x, x, cache)

    def _decode(self, x, memory):
        return (x @ memory.mT).softmax(-1) @ memory

    def _in_chunks(self, q, k, v):
        return (q @ k.mT).softmax(-1) @ v

    def attend_to_all(self, q, k, v):
        return self.forward(q, None) + (q @ k.mT).softmax(-1) @ v

    @torch.no_grad()
    def generate(self, q, k, v):
        return (q @ k.mT).softmax(-1) @ v

    @classmethod
    def attend_once(cls, q, k, v):
        return (q @ k.mT).softmax(-1) @ v

    def export(self, x):
        return self._in_chunks(x, x, x)


class Chosen(nn.Module):
    def forward(self, x, mode):
        return getattr(self, "by_" + mode)(x, x, x)

    def by_softmax(self, q, k, v):
        return (q @ k.mT).softmax(-1) @ v
"""


def test_methods_that_nothing_runs_are_targets() -> None:
    """Not those that the forward runs or chooses by name, that run the forward, or that are for inference."""
    found = {target.symbol: target for target in find_targets("file.py", BESIDE)}
    assert {symbol: str(target.kind) for symbol, target in found.items() if "." in symbol} == {
        "Retention.forward_recurrent": "module",
        "Retention.step": "module",
        "Retention._decode": "module",
        "Retention.attend_once": "function",
    }
    assert {"Retention.step", "Retention._in_chunks", "Retention.__init__"} <= found["Retention.step"].reaches
