"""Modules that are given their layers are built with those that their package gives them."""

from __future__ import annotations

import ast
import sys
from types import ModuleType

import pytest

from tests.support.confirming import confirm_source
from theria_lint.worker.find_call import handed_layers
from theria_lint.worker.find_call.handed_layers import HandedLayer, find_handed_layers

SOURCE = """
import torch
from torch import nn


class Mixer(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return torch.softmax(q @ k.mT, -1) @ v


class CutMixer(Mixer):
    def forward(self, x):
        return super().forward(x) + super().forward(x.detach())


class Norm(nn.Module):
    def __init__(self, dim, unit):
        super().__init__()
        self.norm, self.unit = nn.LayerNorm(dim), unit

    def forward(self, x):
        return self.unit(self.norm(x))


class Skip(nn.Module):
    def __init__(self, thing):
        super().__init__()
        self.thing = thing

    def forward(self, x):
        return x + self.thing(x)


class Cut(nn.Module):
    def __init__(self, thing):
        super().__init__()
        self.thing = thing

    def forward(self, x):
        return self.thing(x)


class Made(nn.Module):
    def __init__(self, dim, kind):
        super().__init__()
        self.thing = kind(dim)

    def forward(self, x):
        return self.thing(x)


class Model(nn.Module):
    def __init__(self, dim):
        super().__init__()
        mixer = Mixer(dim)
        self.cut = CutMixer(dim)
        self.parts = nn.ModuleList([Skip(Norm(dim, mixer)), Cut(self.cut), Made(dim, kind=Mixer), Skip(Skip(mixer))])

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    result = confirm_source(tmp_path_factory.mktemp("handed"), SOURCE)
    return {target.name: target.verdict.value for target in result.targets if not target.configuration}


@pytest.mark.parametrize(
    ("symbol", "verdict"),
    [("Norm", "safe"), ("Skip", "safe"), ("Made", "safe"), ("Cut", "silent_corruption")],
)
def test_what_is_handed_layers_is_run_with_them(verdicts: dict[str, str], symbol: str, verdict: str) -> None:
    assert verdicts[symbol] == verdict


def test_the_layers_of_a_package_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("handing_over")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(handed_layers, "parse_source", lambda _: ast.parse(SOURCE))
    exec(compile(SOURCE, "handing_over.py", "exec"), module.__dict__)
    names = vars(module)
    assert find_handed_layers(names["Skip"], "thing") == [
        HandedLayer(names["Norm"], is_made=True),
        HandedLayer(names["Mixer"], is_made=True),
    ]
    assert find_handed_layers(names["Made"], "kind") == [HandedLayer(names["Mixer"], is_made=False)]
    assert find_handed_layers(names["Model"], "dim") == []
