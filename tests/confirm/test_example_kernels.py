"""The example kernels: what the README shows is what is true of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.confirming import confirm_files
from theria_lint.report.sentences import say

EXAMPLES = Path(__file__).parents[2] / "examples" / "kernels"

FINDINGS = {
    ("detached_logits.py", "THL002"): ("confirmed", "silent_collapse"),
    ("detached_output.py", "THL002"): ("confirmed", "hard_structural"),
    ("detached_weights.py", "THL002"): ("confirmed", "silent_collapse"),
    ("no_grad_attention.py", "THL001"): ("confirmed", "hard_structural"),
    ("once_differentiable.py", "THL003"): ("confirmed", "first_order_only"),
    ("opaque_triton.py", "THL004"): ("confirmed", "silent_collapse"),
    ("safe_logging.py", "THL001"): ("cleared", "safe"),
    ("safe_rotary_cache.py", "THL001"): ("cleared", "safe"),
    ("safe_row_max.py", "THL002"): ("cleared", "safe"),
    ("saved_weights.py", "THL005"): ("confirmed", "silent_corruption"),
    ("wrapped_attention.py", "THL002"): ("confirmed", "silent_collapse"),
}

TARGETS = {
    "cached_attention": ("function", "hard_structural"),
    "frozen_attention": ("function", "hard_structural"),
    "FusedAttention": ("autograd_function", "silent_collapse"),
    "fused_attention": ("function", "silent_collapse"),
    "KeptAttention": ("autograd_function", "silent_corruption"),
    "kept_attention": ("function", "silent_corruption"),
    "logged_attention": ("function", "safe"),
    "logit_frozen_attention": ("function", "silent_collapse"),
    "RecomputedAttention": ("autograd_function", "first_order_only"),
    "recomputed_attention": ("function", "first_order_only"),
    "rotary_attention": ("function", "safe"),
    "stable_attention": ("function", "safe"),
    "ValueOnlyAttention": ("module", "silent_collapse"),
    "with_frozen_weights": ("wrapper", "silent_collapse"),
}


@pytest.fixture(scope="module")
def found():
    return confirm_files(sorted(EXAMPLES.glob("*.py")))


def test_findings(found):
    seen = {(Path(f.suspect.path).name, f.suspect.rule): (str(f.disposition), str(f.verdict)) for f in found.findings}
    assert seen == FINDINGS


def test_targets(found):
    seen = {t.target.symbol: (str(t.target.kind), str(t.verdict)) for t in found.targets}
    assert seen == TARGETS


def test_the_wrapper_ran_on_every_backend(found):
    (wrapper,) = [t for t in found.targets if t.target.symbol == "with_frozen_weights"]
    assert [run.backend for run in wrapper.runs] == ["reference", "custom", "triton"]


def test_evidence_has_numbers_and_reasons(found):
    cleared = [say(finding.reason) for finding in found.findings if finding.disposition == "cleared"]
    assert cleared
    assert all(any(character.isdigit() for character in reason) for reason in cleared)
    assert all(t.reason for t in found.targets)
