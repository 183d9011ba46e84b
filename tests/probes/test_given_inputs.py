"""``theria.probe`` and the assertion in the spellings that people use: names of dtypes and layouts, modules of x."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import theria
from theria.testing import SecondOrderError, assert_second_order_safe
from theria.verdicts import Verdict


class Attention(nn.Module):
    """Self-attention of x, which can be broken in x, or in its parameters alone."""

    def __init__(self, *, frozen: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv = nn.Linear(4, 12, dtype=torch.float32)
        self.frozen = frozen

    def forward(self, x: torch.Tensor, scale: float = 0.5) -> torch.Tensor:
        weight = self.qkv.weight
        weight = weight.detach() + 0 * weight if self.frozen == "p" else weight
        q, k, v = nn.functional.linear(x, weight, self.qkv.bias).chunk(3, -1)
        p = (q @ k.mT * scale).softmax(-1)
        return (p.detach() if self.frozen == "x" else p) @ v


def attention_bthd(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2)


X = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("frozen", "safe"),
    [("", True), ("x", False), ("p", False)],
)
def test_a_module_is_measured_in_x_and_in_its_parameters(frozen: str, safe: bool) -> None:
    module = Attention(frozen=frozen)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    report = theria.probe(module, X, 0.5)
    assert report.safe is safe
    assert {"x", "p"} <= set(report.gradients)
    assert report.dtype == "float64"
    after = module.state_dict()
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items()
    )
    assert isinstance(module.qkv.weight, nn.Parameter)


def test_a_function_of_other_inputs() -> None:
    report = theria.probe(lambda x, mask: (x @ x.mT).masked_fill(mask, -1e9).softmax(-1) @ x, X, torch.eye(5) > 0)
    assert (report.verdict, list(report.gradients), report.oracle) == (Verdict.SAFE, ["x"], report.oracle)
    assert report.oracle.startswith("finite differences")


def test_layouts_and_dtypes_are_taken_as_the_linter_has_them() -> None:
    shown = theria.probe(attention_bthd, layout="BTHD", dtype="float32")
    assert shown.safe
    assert shown.dtype == "float32"
    assert shown == theria.probe(attention_bthd, layout="bthd", dtype=torch.float32)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: theria.probe(attention_bthd, dtype="flaot32"),
            "dtype 'flaot32' is unknown; choose float64, float",
        ),
        (lambda: theria.probe(attention_bthd, layout="BDTH"), "layout 'bdth' is unknown; choose bhtd, bthd, btd or td"),
        (
            lambda: theria.probe(Attention()),
            "Attention takes x, scale, not q, k and v: give it, as in ",
        ),
        (lambda: theria.probe(Attention(), X, layout="BTD"), "layout cannot be heeded where inputs are given"),
        (lambda: theria.probe(Attention(), X, oracle="reference"), "oracle='reference' cannot be heeded"),
    ],
)
def test_what_cannot_be_is_one_sentence(call, told: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        call()
    assert str(caught.value).startswith(told)


def test_the_assertion_takes_modules_and_begins_with_the_verdict() -> None:
    assert assert_second_order_safe(Attention(), X).safe
    with pytest.raises(SecondOrderError) as caught:
        assert_second_order_safe(Attention(frozen="x"), X)
    assert str(caught.value).startswith(f"{caught.value.report.verdict}: ")


def test_pytest_shows_the_line_of_the_test_and_the_verdict_first(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from theria.testing import assert_second_order_safe\n\n"
        "def attention(q, k, v):\n    return ((q @ k.mT).softmax(-1) @ v).detach()\n\n"
        "def test_it():\n    assert_second_order_safe(attention, scale=1.0)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True, check=False
    )
    (summary,) = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    assert summary.partition(" - ")[2].startswith("theria.testing.SecondOrderError: hard_structural: ")
    assert "report = probe(" not in done.stdout


def test_the_version_is_that_of_the_linter() -> None:
    import theria_lint

    assert theria.__version__ == theria_lint.__version__
