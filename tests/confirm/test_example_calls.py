"""Calls that stand in docs and tests as plain code are tried before anything is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.recorded_project import lint

KERNELS = """
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Plan:
    code: str = "x"
    width: int = 4


class DocAttention(nn.Module):
    \"\"\"Attends.

    Example::

        attn = DocAttention(Plan("doc", 64), table=torch.tensor([5, 4]))
        y = attn(torch.randn(2, 1024, 64), mode="d")
        print(y.shape)

    \"\"\"

    def __init__(self, plan, *, table):
        super().__init__()
        assert plan.code == "doc" and table.tolist() == [5, 4]
        self.qkv = nn.Linear(plan.width, 3 * plan.width)

    def forward(self, x, mode):
        assert mode == "d"
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v


def page_attention(q, k, v, plan):
    assert plan["kind"] == "page"
    return (q @ k.transpose(-1, -2)).softmax(-1).detach() @ v


def tested_attention(q, k, v, plan, causal=False):
    assert plan.code == "tested"
    scores = q @ k.transpose(-1, -2)
    if causal:
        return scores.tril().softmax(-1).detach() @ v
    return scores.softmax(-1) @ v


def main_attention(q, k, v, code):
    assert code == "main 17"
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v


def hidden_attention(q, k, v, code):
    assert code == "hidden"
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v


if __name__ == "__main__":
    q = torch.randn(1, 2, 5, 4)
    print(main_attention(q, q, q, "main 17").shape)
"""

PAGE = """
# Shop

```python
import torch
import not_installed_at_all
from shop.kernels import page_attention

q, k, v = (torch.randn(1, 2, 6, 4) for _ in range(3))
out = page_attention(q, k, v, {"kind": "page"})
open("RAN", "w")
```
"""

TESTS = """
import pytest
import torch

from shop.kernels import Plan, tested_attention

SIZE = 4


def make():
    return torch.randn(1, 2, 5, SIZE)


@pytest.mark.parametrize("code", ["tested", "other"])
def test_attention(code):
    q = make()
    with torch.no_grad():
        out = tested_attention(q, q, q, Plan(code))
    assert out.shape == q.shape
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose calls nobody would guess; nothing was recorded."""
    root = tmp_path_factory.mktemp("shown")
    for name, text in {
        "shop/__init__.py": "",
        "shop/kernels.py": KERNELS,
        "README.md": PAGE,
        "tests/test_kernels.py": TESTS,
        "theria-lint.toml": "",
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return root


def find_line(text: str, code: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if code in line)


def test_targets_are_called_as_docs_and_tests_do(project: Path) -> None:
    found = lint(project, paths=(".",))
    told = {
        symbol: (target["verdict"], [n["reason"] for n in target["runs"][0]["notes"] if "called" in n["reason"]][:1])
        for symbol, target in found.items()
        if symbol != "stderr" and target["runs"]
    }
    assert {symbol: verdict for symbol, (verdict, _) in told.items()} == {
        "DocAttention": "safe",
        "page_attention": "hard_structural",
        "tested_attention": "hard_structural",
        "main_attention": "safe",
    }
    line = find_line(KERNELS, "attn = DocAttention")
    assert told["DocAttention"][1][0].startswith(f"called as shop/kernels.py:{line} does")
    assert told["page_attention"][1] == [f"called as README.md:{find_line(PAGE, 'import torch')} does"]
    assert told["tested_attention"][1] == [f"called as tests/test_kernels.py:{find_line(TESTS, 'def test_')} does"]
    assert found["hidden_attention"]["verdict"] == "inconclusive"
    assert not (project / "RAN").exists()


def test_what_the_user_did_not_name_is_neither_read_nor_run(project: Path) -> None:
    found = lint(project, paths=("shop",))
    assert found["main_attention"]["verdict"] == "safe"
    assert {found[symbol]["verdict"] for symbol in ("page_attention", "tested_attention")} == {"inconclusive"}


def test_recorded_calls_alone_means_recorded(project: Path) -> None:
    found = lint(project, "--calls", "recorded", paths=("shop",))
    assert found["main_attention"]["verdict"] == "inconclusive"
