"""Where a stand-in takes the place of what no rewrite neutralises."""

from __future__ import annotations

import ast

import pytest

from theria_lint.ablate.replacements import has_substitute
from theria_lint.ablate.rewriting import ablate_suspects
from theria_lint.model import Suspect
from theria_lint.rules.loader import load_rules
from theria_lint.static.scan import scan_source

SOURCE = """\
import torch


class Soft(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        p = (q @ k.mT).softmax(-1)
        ctx.save_for_backward(q, k, v, p)
        return p @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v, p = ctx.saved_tensors
        ds = p * (g @ v.mT - (p * (g @ v.mT)).sum(-1, keepdim=True))
        return ds @ k, ds.mT @ q, p.mT @ g


class Opaque(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return (q @ k.mT).softmax(-1) @ v

    @staticmethod
    def backward(ctx, g):
        return torch.ops.kernels.attention_backward(g, *ctx.saved_tensors)


class Attention(torch.nn.Module):
    def __init__(self):
        self.attend = torch.nn.MultiheadAttention(8, 2)

    def forward(self, x):
        return self.attend(x, x, x)[0]
"""


def suspect_of(rule: str) -> Suspect:
    (found,) = [s for s in scan_source("kernel.py", SOURCE, load_rules()) if s.rule == rule]
    return found


@pytest.mark.parametrize(("rule", "expected"), [("THL005", True), ("THL004", True), ("THL008", False)])
def test_a_suspect_of_an_autograd_function_has_one(rule: str, expected: bool) -> None:
    suspect = suspect_of(rule)
    assert suspect.neutraliser is None
    assert has_substitute(SOURCE, suspect) is expected
    assert (ablate_suspects(SOURCE, [suspect], substitute=True) != SOURCE) is expected
    assert ablate_suspects(SOURCE, [suspect]) == SOURCE


def test_a_stand_in_keeps_the_lines_and_changes_its_own_class_only() -> None:
    variant = ablate_suspects(SOURCE, [suspect_of("THL005")], substitute=True)
    old, new = SOURCE.splitlines(), variant.splitlines()
    assert [number for number, pair in enumerate(zip(old, new, strict=True), 1) if pair[0] != pair[1]] == [4, 8]
    names = {node.name: node.keywords for node in ast.parse(variant).body if isinstance(node, ast.ClassDef)}
    assert [keyword.arg for keyword in names["Soft"]] == ["metaclass"]
    assert not names["Opaque"]
