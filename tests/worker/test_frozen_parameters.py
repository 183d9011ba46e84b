"""Parameters that a forward freezes or copies: whoever learns them gets no gradient, whatever was called before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.confirming import confirm_source, finding_of, target_of
from theria_lint.confirm.confirm import Confirmation
from theria_lint.reasons import ReasonCode

HEAD = """
import copy

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.scale = nn.Parameter(torch.ones(()))

    def attend(self, x, k):
        return torch.softmax(self.scale * self.q(x) @ k.transpose(-1, -2), -1) @ self.v(x)
"""
FREEZES = {
    "MethodAttention": "self.k.weight.requires_grad_(False)",
    "FlagAttention": "self.scale.requires_grad = False",
    "WholeAttention": "self.requires_grad_(False)",
    "NamedAttention": "self.scale.requires_grad_(requires_grad=False)",
}
THAWED = """

class ThawedAttention(Attention):
    def forward(self, x):
        for p in self.k.parameters():
            p.requires_grad_(False)
        k = self.k(x)
        for p in self.k.parameters():
            p.requires_grad_(True)
        return self.attend(x, k)


class FrozenOnPurposeAttention(Attention):
    def __init__(self, dim=8):
        super().__init__(dim)
        self.k.requires_grad_(False)

    def forward(self, x):
        return self.attend(x, self.k(x))
"""


SOURCE = HEAD + "".join(
    f"""

class {name}(Attention):
    def forward(self, x):
        {line}
        return self.attend(x, self.k(x))
"""
    for name, line in FREEZES.items()
)
SOURCE += THAWED
SOURCE += """

class CopyingAttention(Attention):
    def forward(self, x):
        return self.attend(x, copy.deepcopy(self.k)(x))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("frozen"), SOURCE)


@pytest.mark.parametrize("name", [*FREEZES, "ThawedAttention"])
def test_a_forward_that_freezes_a_parameter_is_unsafe_at_that_line(found: Confirmation, name: str) -> None:
    assert target_of(found, name).verdict.unsafe
    frozen = FREEZES.get(name, "p.requires_grad_(False)")
    line = next(number for number, text in enumerate(SOURCE.split("\n"), 1) if text.strip() == frozen)
    assert finding_of(found, "THL002", line).disposition == "confirmed"


def test_a_deep_copy_of_a_layer_is_another_layer(found: Confirmation) -> None:
    assert target_of(found, "CopyingAttention").verdict.unsafe


def test_what_is_built_frozen_is_no_input(found: Confirmation) -> None:
    assert target_of(found, "FrozenOnPurposeAttention").verdict == "safe"


TOLD_APART = """

class ParameterAttention(Attention):
    def forward(self, x):
        scale = self.scale if isinstance(self.scale, nn.Parameter) else self.scale.detach()
        return self.attend(x, self.k(x)) * scale


class LeafAttention(Attention):
    def forward(self, x):
        if not all(p.is_leaf for p in self.parameters()):
            raise RuntimeError("not the parameters")
        return self.attend(x, self.k(x))
"""


def test_a_forward_that_refuses_other_parameters_is_not_called_safe(tmp_path: Path) -> None:
    found = confirm_source(tmp_path, HEAD + TOLD_APART, device="cpu")
    assert target_of(found, "ParameterAttention").verdict == "safe"
    refusing = target_of(found, "LeafAttention")
    assert refusing.verdict == "inconclusive"
    assert refusing.reason.code == ReasonCode.SAFE_IN_INPUTS
    assert refusing.reason.data["reason"].code == ReasonCode.PARAMETERS_RAISE
