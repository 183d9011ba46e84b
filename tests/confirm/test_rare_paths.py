"""Damage on paths that a plain call does not take: it is seen, and the suspect on that path is ruled on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.confirming import confirm_source, finding_of, target_of

HEAD = """\
import torch

def attend(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v

def normalised(s, v):
    return (s - s.logsumexp(-1, keepdim=True).detach()).exp() @ v.to(s.dtype)

"""

PATHS = {
    "in float32": (
        "def attention(q, k, v):\n    s = q @ k.mT / q.shape[-1] ** 0.5\n"
        "    return s.softmax(-1) @ v if s.dtype == torch.float64 else normalised(s, v)\n",
        "silent_corruption",
        "confirmed",
    ),
    "under autocast": (
        "def attention(q, k, v):\n    s = q @ k.mT / q.shape[-1] ** 0.5\n"
        "    return normalised(s, v) if torch.is_autocast_enabled('cpu') else s.softmax(-1) @ v\n",
        "silent_corruption",
        "confirmed",
    ),
    "where q is frozen": (
        "def attention(q, k, v):\n    s = q @ k.mT / q.shape[-1] ** 0.5\n"
        "    return s.softmax(-1) @ v if q.requires_grad else normalised(s, v)\n",
        "silent_corruption",
        "confirmed",
    ),
    "in scripted code": (
        "@torch.jit.script\ndef attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor):\n"
        "    s = torch.matmul(q, k.transpose(-2, -1)) / float(q.size(-1)) ** 0.5\n"
        "    return torch.matmul((s - torch.logsumexp(s, -1, True).detach()).exp(), v)\n",
        "silent_corruption",
        "confirmed",
    ),
    "harmless, where q is frozen": (
        "def attention(q, k, v):\n    with torch.enable_grad():\n"
        "        x = q if q.requires_grad else q.detach().requires_grad_()\n"
        "        (g,) = torch.autograd.grad(x.square().sum() / 2, x, create_graph=True)\n"
        "    return attend(x - 0.5 * g, k, v)\n",
        "safe",
        "cleared",
    ),
}


@pytest.mark.parametrize("path", PATHS)
def test_a_suspect_on_a_rare_path_is_ruled_on(tmp_path: Path, path: str) -> None:
    body, verdict, disposition = PATHS[path]
    found = confirm_source(tmp_path, HEAD + body, device="cpu")
    assert target_of(found, "attention").verdict == verdict
    assert {str(f.disposition) for f in found.findings if f.suspect.symbol in ("attention", "normalised")} == {
        disposition
    }


@pytest.mark.parametrize("name", ["sinks", "rel_pos_bias"])
def test_a_learned_logit_is_an_input(tmp_path: Path, name: str) -> None:
    body = (
        f"def attention(q, k, v, {name}: torch.Tensor):\n"
        f'    """q, k, v (B, H, T, D); {name} (H,)."""\n'
        f"    s = q @ k.mT / q.shape[-1] ** 0.5 + (q @ k.mT) * {name}.detach().view(-1, 1, 1)\n"
        "    return s.softmax(-1) @ v\n"
    )
    found = confirm_source(tmp_path, HEAD + body, device="cpu")
    assert target_of(found, "attention").verdict == "hard_structural"
    assert finding_of(found, "THL002", 11).disposition == "confirmed"


def test_a_parameter_keeps_its_hooks(tmp_path: Path) -> None:
    body = (
        "class Attention(torch.nn.Module):\n    def __init__(self, dim):\n        super().__init__()\n"
        "        self.qkv = torch.nn.Linear(dim, 3 * dim)\n"
        "        self.qkv.weight.register_hook(lambda g: g.detach())\n"
        "    def forward(self, x):\n        return attend(*self.qkv(x).chunk(3, -1))\n"
    )
    found = confirm_source(tmp_path, HEAD + body, device="cpu")
    assert target_of(found, "Attention").verdict == "silent_corruption"
    assert finding_of(found, "THL011").disposition == "confirmed"


def test_a_tensor_made_of_numbers_is_to_blame(tmp_path: Path) -> None:
    body = (
        "def attention(q, k, v):\n    s = torch.tensor((q @ k.mT).tolist(), dtype=q.dtype)\n"
        "    return s.softmax(-1) @ v\n"
    )
    found = confirm_source(tmp_path, HEAD + body, device="cpu")
    made, _ = (finding for finding in found.findings if finding.suspect.symbol == "attention")
    assert made.disposition == "confirmed"


def test_a_table_of_biases_says_how_many_positions_there_are(tmp_path: Path) -> None:
    body = (
        "class WindowAttention(torch.nn.Module):\n"
        "    def __init__(self, dim, window_size):\n        super().__init__()\n"
        "        self.qkv = torch.nn.Linear(dim, 3 * dim)\n        size = window_size[0] * window_size[1]\n"
        "        self.table = torch.nn.Parameter(torch.zeros(size, size))\n"
        "    def forward(self, x):\n        q, k, v = self.qkv(x).chunk(3, -1)\n"
        "        return (q @ k.mT + self.table).softmax(-1) @ v\n"
        "class NearAttention(WindowAttention):\n"
        "    def __init__(self, dim):\n        super().__init__(dim, (3, 3))\n"
    )
    found = confirm_source(tmp_path, HEAD + body, device="cpu")
    assert {target.verdict for target in found.targets if "Attention" in target.target.symbol} == {"safe"}


def test_star_arguments_are_three_tensors(tmp_path: Path) -> None:
    body = "def attention(*qkv, **options):\n    q, k, v = qkv\n    return attend(q, k, v.detach())\n"
    found = confirm_source(tmp_path, HEAD + body, device="cpu")
    assert target_of(found, "attention").verdict == "hard_structural"


def test_a_buffer_that_a_call_adds_to_is_a_new_one_each_time(tmp_path: Path) -> None:
    body = (
        "class Attention(torch.autograd.Function):\n"
        "    @staticmethod\n    def forward(ctx, out, q, k, v):\n"
        "        ctx.save_for_backward(q, k, v)\n        ctx.mark_dirty(out)\n"
        "        return out.add_(attend(q, k, v))\n"
        "    @staticmethod\n    def backward(ctx, g):\n        q, k, v = ctx.saved_tensors\n"
        "        with torch.enable_grad():\n"
        "            return g, *torch.autograd.grad(attend(q, k, v), (q, k, v), g, create_graph=True)\n"
    )
    assert target_of(confirm_source(tmp_path, HEAD + body, device="cpu"), "Attention").verdict == "safe"
