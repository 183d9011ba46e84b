"""Code that takes another path where a package of fused kernels is installed says so beside its verdict."""

from __future__ import annotations

from pathlib import Path

from tests.support.confirming import confirm_source, target_of
from theria.verdicts import Verdict
from theria_lint.reasons import ReasonCode
from theria_lint.report.sentences import say

OPTIONAL = """
import importlib.util, torch

try:
    from flash_attn import flash_attn_func
except ImportError:
    flash_attn_func = None
has_xformers = importlib.util.find_spec("xformers") is not None

def attention(q, k, v):
    if flash_attn_func is not None:
        return flash_attn_func(q, k, v)
    return torch.softmax(q @ k.mT, dim=-1) @ v
"""


def test_a_safe_verdict_names_what_it_was_reached_without(tmp_path: Path) -> None:
    target = target_of(confirm_source(tmp_path, OPTIONAL), "attention")
    assert target.verdict is Verdict.SAFE
    assert (target.reason.code, target.reason.data["packages"]) == (
        ReasonCode.WITHOUT_PACKAGES, ["flash_attn", "xformers"],
    )  # fmt: skip
    assert say(target.reason).startswith("without 2 packages, all gradients")


def test_nothing_is_said_where_nothing_was_looked_for(tmp_path: Path) -> None:
    source = OPTIONAL.replace("from flash_attn", "from collections").replace("xformers", "math")
    assert "without" not in say(target_of(confirm_source(tmp_path, source), "attention").reason)
