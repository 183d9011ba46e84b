"""The dynamic stage on kernels that ask for one thing each."""

from __future__ import annotations

import pytest

from tests.support.confirming import confirm_files, confirm_source, finding_of, target_of
from theria_lint.reasons import ReasonCode, holds_code
from theria_lint.report.sentences import compose_message, say

HEAD = """
import math
import torch
import torch.nn.functional as F


def soft(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v

"""


def line_of(source: str, text: str) -> int:
    return next(i for i, line in enumerate(source.splitlines(), 1) if text in line)


def test_a_harmful_and_a_harmless_detach_in_one_target(tmp_path):
    source = HEAD + (
        "def attention(q, k, v):\n"
        "    logits = q @ k.transpose(-1, -2)\n"
        "    weights = (logits - logits.amax(-1, keepdim=True).detach()).exp()\n"
        "    return weights @ v / weights.sum(-1, keepdim=True).detach()\n"
    )
    found = confirm_source(tmp_path, source)
    assert finding_of(found, "THL002", line_of(source, "amax")).disposition == "cleared"
    harmful = finding_of(found, "THL002", line_of(source, "weights.sum"))
    assert (harmful.disposition, harmful.verdict) == ("confirmed", "silent_corruption")


def test_two_that_hide_each_other_are_both_confirmed(tmp_path):
    source = HEAD + (
        "def attention(q, k, v):\n"
        "    with torch.no_grad():\n"
        "        weights = torch.softmax(q @ k.transpose(-1, -2), -1)\n"
        "    weights = weights.detach()\n"
        "    return weights @ v\n"
    )
    found = confirm_source(tmp_path, source)
    assert finding_of(found, "THL001").disposition == "confirmed"
    assert finding_of(found, "THL002").disposition == "confirmed"


def test_a_suspect_behind_a_cut_graph_is_reached_in_a_neutralised_variant(tmp_path):
    source = HEAD + (
        "from torch.autograd.function import once_differentiable\n\n\n"
        "class Attention(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, q, k, v):\n"
        "        ctx.save_for_backward(q, k, v)\n"
        "        return soft(q, k, v)\n\n"
        "    @staticmethod\n"
        "    @once_differentiable\n"
        "    def backward(ctx, grad):\n"
        "        with torch.enable_grad():\n"
        "            leaves = [t.clone().requires_grad_() for t in ctx.saved_tensors]\n"
        "            return torch.autograd.grad(soft(*leaves), leaves, grad)\n\n\n"
        "def attention(q, k, v):\n"
        "    return Attention.apply(q, k, v).detach()\n"
    )
    found = confirm_source(tmp_path, source)
    once = finding_of(found, "THL003")
    assert once.disposition == "confirmed"
    assert finding_of(found, "THL002", line_of(source, "apply")).disposition == "confirmed"


@pytest.mark.parametrize(
    "branch",
    [
        "    if q.dim() > 9:\n        q = q.detach()\n",
        "    if q.dim() > 9: q = q.detach()\n",
        "    q = q.detach() if q.dim() > 9 else q\n",
    ],
)
def test_a_branch_that_is_not_taken_is_unconfirmed_and_says_so(tmp_path, branch):
    source = HEAD + "def attention(q, k, v):\n" + branch + "    return soft(q, k, v)\n"
    finding = finding_of(confirm_source(tmp_path, source), "THL002")
    assert finding.disposition == "unconfirmed"
    assert say(finding.reason).startswith("not reached by attention")


def test_a_suspect_in_a_helper_of_another_file(tmp_path):
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helpers.py").write_text(
        HEAD + "def attention_weights(q, k):\n    return torch.softmax(q @ k.transpose(-1, -2), -1).detach()\n"
    )
    (package / "api.py").write_text(
        "from .helpers import attention_weights\n\n\ndef attention(q, k, v):\n    return attention_weights(q, k) @ v\n"
    )
    found = confirm_files([package / "api.py", package / "helpers.py"])
    assert target_of(found, "attention").verdict == "hard_structural"
    assert finding_of(found, "THL002").disposition == "confirmed"


def test_code_that_calls_sdpa_runs_as_it_is_and_on_every_backend(tmp_path):
    source = HEAD + (
        "def attention(q, k, v):\n"
        "    out = F.scaled_dot_product_attention(q, k, v)\n"
        "    return out.detach() + 0 * out\n"
    )
    found = confirm_source(tmp_path, source)
    target = target_of(found, "attention")
    verdicts = {run.backend: str(run.verdict) for run in target.runs}
    assert verdicts == {
        "self": "first_order_only",
        "reference": "silent_collapse",
        "custom": "silent_collapse",
        "triton": "silent_collapse",
    }
    assert target.verdict == "silent_collapse"
    assert finding_of(found, "THL002").disposition == "confirmed"


def test_sdpa_by_another_name_is_found_by_running(tmp_path):
    source = (
        "from torch.nn.functional import scaled_dot_product_attention as fused\n\n\n"
        "def attention(q, k, v):\n    return fused(q, k, v)\n"
    )
    runs = target_of(confirm_source(tmp_path, source), "attention").runs
    assert [(run.backend, str(run.verdict)) for run in runs] == [
        ("self", "first_order_only"),
        ("reference", "safe"),
        ("custom", "safe"),
        ("triton", "safe"),
    ]


def test_a_module_whose_parameters_alone_lose_curvature(tmp_path):
    source = HEAD + (
        "class Attention(torch.nn.Module):\n"
        "    def __init__(self, dim):\n"
        "        super().__init__()\n"
        "        self.q, self.k, self.v = (torch.nn.Linear(dim, dim) for _ in range(3))\n\n"
        "    def forward(self, x):\n"
        "        return soft(self.q(x), F.linear(x, self.k.weight.detach()), self.v(x))\n"
    )
    found = confirm_source(tmp_path, source)
    target = target_of(found, "Attention")
    assert target.verdict == "silent_corruption"
    assert (target.reason.code, target.reason.data["inputs"]) == (ReasonCode.SAFE_IN_INPUTS, ["x"])
    assert finding_of(found, "THL002").disposition == "confirmed"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import not_there_at_all\n", "not_there_at_all is missing"),
        ("raise SystemExit(3)\n", "it exits when it is imported"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_cannot_be_imported_is_inconclusive_with_a_reason(tmp_path, source, told):
    good = tmp_path / "good.py"
    good.write_text(HEAD + "def attention(q, k, v):\n    return soft(q, k, v)\n")
    bad = tmp_path / "bad.py"
    bad.write_text("import torch\n" + source + "def attention(q, k, v):\n    return (q @ k @ v).detach()\n")
    found = confirm_files([bad, good])
    verdicts = {t.target.path: (str(t.verdict), say(t.reason)) for t in found.targets if t.target.symbol == "attention"}
    assert verdicts[str(bad)][0] == "inconclusive"
    assert told in verdicts[str(bad)][1]
    assert verdicts[str(good)][0] == "safe"
    assert finding_of(found, "THL002").disposition == "unconfirmed"


def test_an_interpreter_without_torch_says_why_nothing_was_run(tmp_path):
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    source = HEAD + "def attention(q, k, v):\n    return soft(q, k, v).detach()\n"
    found = confirm_source(tmp_path, source, python=str(tmp_path / "bare" / "bin" / "python"))
    (note,) = found.notes
    assert holds_code(note, ReasonCode.TORCH_NOT_IMPORTED)
    assert "nstall theria-lint[confirm] there" in compose_message(note).helps[0]
    assert finding_of(found, "THL002").disposition == "unconfirmed"


def test_the_same_result_twice(tmp_path):
    source = HEAD + "def attention(q, k, v):\n    return soft(q, k, v.detach() + 0 * v)\n"
    assert confirm_source(tmp_path, source) == confirm_source(tmp_path, source)


def test_a_target_that_the_configuration_skips_is_not_run(tmp_path):
    source = HEAD + "import os\n\n\ndef attention(q, k, v):\n    os._exit(3)\n    return soft(q, k, v).detach()\n"
    found = confirm_source(tmp_path, source, targets=({"target": "kernel:attention", "skip": True},))
    target = target_of(found, "attention")
    assert (target.verdict, say(target.reason)) == ("inconclusive", "the configuration says to skip it")
    assert finding_of(found, "THL002").disposition == "unconfirmed"


def test_damage_in_evaluation_mode_alone(tmp_path):
    source = HEAD + (
        "class Attention(torch.nn.Module):\n"
        "    def __init__(self, dim):\n"
        "        super().__init__()\n"
        "        self.qkv = torch.nn.Linear(dim, 3 * dim)\n\n"
        "    def forward(self, x):\n"
        "        q, k, v = self.qkv(x).chunk(3, -1)\n"
        "        weights = torch.softmax(q @ k.transpose(-1, -2), -1)\n"
        "        if not self.training:\n"
        "            weights = weights.detach()\n"
        "        return weights @ v\n"
    )
    found = confirm_source(tmp_path, source)
    target = target_of(found, "Attention")
    assert target.verdict.unsafe
    assert any("evaluation mode" in say(note) for run in target.runs for note in run.notes)
    assert finding_of(found, "THL002").disposition == "confirmed"


def test_damage_under_autocast_alone(tmp_path):
    source = HEAD + (
        "def attention(q, k, v):\n"
        "    if torch.is_autocast_enabled('cpu'):\n"
        "        k = k.detach() + 0 * k\n"
        "    return soft(q, k, v)\n"
    )
    target = target_of(confirm_source(tmp_path, source), "attention")
    assert target.verdict == "silent_corruption"
    assert any("autocast" in say(note) for run in target.runs for note in run.notes)


def test_damage_under_a_causal_mask_alone(tmp_path):
    source = HEAD + (
        "def attention(q, k, v, is_causal=False):\n"
        "    logits = q @ k.transpose(-1, -2)\n"
        "    if is_causal:\n"
        "        hidden = torch.ones_like(logits, dtype=torch.bool).triu(1)\n"
        "        logits = logits.detach().masked_fill(hidden, -math.inf) + 0 * logits\n"
        "    return torch.softmax(logits, -1) @ v\n"
    )
    found = confirm_source(tmp_path, source)
    target = target_of(found, "attention")
    assert target.verdict.unsafe
    assert any("a causal mask" in say(note) for run in target.runs for note in run.notes)
    assert finding_of(found, "THL002").disposition == "confirmed"
