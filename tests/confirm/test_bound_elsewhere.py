"""What a module makes of attention of another file: judged, and explained, where it is made and where it is written."""

from __future__ import annotations

import pytest

from tests.support.confirming import confirm_files, finding_of, target_of
from theria.verdicts import Verdict
from theria_lint.confirm.confirm import Confirmation
from theria_lint.model import Disposition

CORE = """import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, dim=16, fast=False):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.fast = fast

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(-2, -1)
        return (scores.detach() if self.fast else scores).softmax(-1) @ v


def attention(q, k, v):
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v
"""
BOUND = """import functools

import torch

from . import core
from .core import Attention

FastAttention = functools.partial(Attention, fast=True)
compiled_attention = torch.compile(core.attention, backend="aot_eager")
plain_attention = torch.compiler.disable(core.attention)
"""


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    folder = tmp_path_factory.mktemp("bound") / "package"
    folder.mkdir()
    for name, text in {"__init__.py": "", "core.py": CORE, "bound.py": BOUND}.items():
        (folder / name).write_text(text)
    return confirm_files([folder / "core.py", folder / "bound.py"], timeout=120)


@pytest.mark.parametrize(
    ("symbol", "verdict"),
    [
        ("FastAttention", Verdict.SILENT_COLLAPSE),
        ("compiled_attention", Verdict.FIRST_ORDER_ONLY),
        ("plain_attention", Verdict.SAFE),
    ],
)
def test_a_name_has_a_verdict_of_its_own(confirmed: Confirmation, symbol: str, verdict: Verdict) -> None:
    assert target_of(confirmed, symbol).verdict is verdict


def test_what_makes_it_is_confirmed_though_none_of_its_lines_run(confirmed: Confirmation) -> None:
    assert finding_of(confirmed, "THL009", 9).disposition is Disposition.CONFIRMED


def test_what_is_written_elsewhere_belongs_to_it(confirmed: Confirmation) -> None:
    symbols = {symbol for _, symbol in target_of(confirmed, "FastAttention").target.beyond}
    assert "Attention.forward" in symbols
    assert finding_of(confirmed, "THL002").disposition is Disposition.CONFIRMED
