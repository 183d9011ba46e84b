"""Attention that functions build and return as an object: which of it is a target."""

from __future__ import annotations

import pytest

from theria_lint.static.targets import find_targets

FACTORY = """\
from torch import nn
from .blocks import Module


def AttentionBase(features):
    to_out = nn.Linear(features, features)

    def forward(q, k, v):
        return to_out({attends})

    return {made}
"""
ATTENDS = "(q @ k.mT).softmax(-1) @ v"


def list_targets(source: str) -> list[str]:
    return [target.symbol for target in find_targets("blocks.py", source)]


@pytest.mark.parametrize(
    "made", ["Module([to_out], forward)", "Module(blocks=[to_out], call=forward)", "nn.Module(forward)"]
)
def test_attention_that_an_object_is_given_to_call_is_a_target(made: str) -> None:
    assert list_targets(FACTORY.format(attends=ATTENDS, made=made)) == ["AttentionBase.forward"]


@pytest.mark.parametrize(
    "made",
    [
        # What is called is no class: it may run the function and return a tensor.
        "run(to_out, forward)",
        # The object is given the function's result, or another function.
        "Module([to_out], forward(features, features, features))",
        "Module([to_out], features)",
        "to_out",
    ],
)
def test_what_is_returned_without_the_function_is_none(made: str) -> None:
    assert list_targets(FACTORY.format(attends=ATTENDS, made=made)) == []


def test_an_object_that_is_given_no_attention_is_none() -> None:
    assert list_targets(FACTORY.format(attends="q", made="Module([to_out], forward)").replace("q, k, v", "q")) == []


@pytest.mark.parametrize(
    ("name", "known"), [("CrossAttenderStack", True), ("AttenderConfig", False), ("Tender", False)]
)
def test_an_attender_attends(name: str, known: bool) -> None:
    body = "    def forward(self, x):\n        for layer in self.layers: x = layer(x)\n        return x\n"
    found = list_targets(f"import torch\nfrom torch import nn\n\n\nclass {name}(nn.Module):\n{body}")
    assert found == ([name] if known else [])
