"""Calls are recorded wherever a target is called: in the command's own script, of what factories return, of objects."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.recorded_project import lint, record, run

KERNELS = """
import functools
import torch
from torch import nn


def make_attention(plan, *, window):
    assert plan["kind"] == "full" and window.tolist() == [3, 2]

    def attend(q, k, v, extra):
        assert extra == "x7"
        return (q @ k.transpose(-2, -1) * plan["scale"]).softmax(-1) @ v

    return attend


def _attention(q, k, v, code, scale):
    assert code == 77
    return (q @ k.transpose(-2, -1) * scale).softmax(-1) @ v


scaled_attention = functools.partial(_attention, scale=0.5)


class Scaled:
    def __init__(self, code):
        self.code = code

    def __call__(self, q, k, v):
        assert self.code == "never"
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


bound_attention = Scaled("never")


class Host(nn.Module):
    def __init__(self, width, *, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))


class AttnProcessor:
    def __call__(self, attn, hidden_states, mode=None):
        assert mode == "m1"
        parts = (project(hidden_states) for project in (attn.to_q, attn.to_k, attn.to_v))
        q, k, v = (part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in parts)
        return (q @ k.transpose(-2, -1)).softmax(-1).detach() @ v
"""

SCRIPT = '''
"""A script."""
from __future__ import annotations
import torch, sys
from torch import nn
from dataclasses import dataclass
from shop.kernels import *
from shop import kernels

@dataclass
class Config:
    width: int = 8

class TrainAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        assert config.width == 8
        self.qkv = nn.Linear(8, 24)
    def forward(self, x, secret):
        assert secret == "s"
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v

def main():
    TrainAttention(Config())(torch.randn(2, 5, 8), "s")
    q = torch.randn(1, 2, 5, 4)
    make_attention({"kind": "full", "scale": 0.5}, window=torch.tensor([3, 2]))(q, q, q, "x7")
    kernels.scaled_attention(q, q, q, 77)
    bound_attention(q, q, q)
    AttnProcessor()(Host(8, heads=2), torch.randn(2, 5, 8), mode="m1")
    print(sys.argv, __name__, __file__, __spec__, sys.path[0])

if __name__ == "__main__":
    main()
'''

VERDICTS = {
    "make_attention.attend": "safe",
    "_attention": "safe",
    "scaled_attention": "safe",
    "Scaled": "safe",
    "AttnProcessor": "silent_collapse",
    "TrainAttention": "safe",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose script was recorded once."""
    root = tmp_path_factory.mktemp("places")
    (root / "shop").mkdir()
    (root / "shop" / "__init__.py").write_text("")
    (root / "shop" / "kernels.py").write_text(KERNELS)
    (root / "train.py").write_text(SCRIPT)
    (root / "theria-lint.toml").write_text("")
    plain = run(root, "train.py", "--steps", "2")
    done = record(root, sys.executable, "train.py", "--steps", "2", paths=(".",))
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain.stdout
    assert "kept 6 calls of 6 of 6 attention targets" in done.stderr
    return root


def test_each_is_called_as_it_was_recorded(project: Path) -> None:
    found = lint(project, "--calls", "recorded", paths=(".",))
    assert {symbol: found[symbol]["verdict"] for symbol in VERDICTS} == VERDICTS
    notes = [note["reason"] for note in found["TrainAttention"]["runs"][0]["notes"]]
    assert f"called as train.py:{_find_line('TrainAttention(Config())')} did" in notes


def _find_line(code: str) -> int:
    return next(number for number, line in enumerate(SCRIPT.splitlines(), 1) if code in line)


def test_a_closure_is_called_where_a_call_says_how_it_is_made(project: Path) -> None:
    guessed = lint(project, "--calls", "guessed", paths=(".",))
    assert guessed["make_attention.attend"]["verdict"] == "inconclusive"
    document = json.loads(
        (project / ".theria/calls/shop/kernels.py/make_attention.attend/1.json").read_text(encoding="utf-8")
    )
    assert document["factory"]["symbol"] == "make_attention"
    assert [key for key, _ in document["factory"]["args"][0]["dict"]] == [{"value": "kind"}, {"value": "scale"}]


def test_a_script_that_starts_processes_is_found_by_them(tmp_path: Path) -> None:
    (tmp_path / "theria-lint.toml").write_text("")
    (tmp_path / "work.py").write_text("""
import multiprocessing, torch
def attention(q, k, v, code):
    assert code == 7
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v
def work():
    q = torch.randn(1, 2, 5, 4)
    attention(q, q, q, 7)
if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=work)
    worker.start(); worker.join()
    raise SystemExit(worker.exitcode)
""")
    done = record(tmp_path, sys.executable, "work.py", paths=(".",))
    assert done.returncode == 0, done.stderr
    assert "kept 1 calls of 1 of 1 attention targets" in done.stderr
    assert lint(tmp_path, paths=(".",))["attention"]["verdict"] == "safe"
