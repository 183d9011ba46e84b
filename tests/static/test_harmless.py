"""Decoys: code near attention that does no harm is a note, or nothing, and a note alone fails no run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lint_case import Lint
from theria_lint.rules.loader import load_rules
from theria_lint.static.scan import scan_source

RULES = load_rules()
HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"


def severities(code: str) -> list[str]:
    found = scan_source("file.py", HEAD + code, RULES)
    assert found == scan_source("file.py", HEAD + code, RULES, prefilter=False)
    return [suspect.severity for suspect in found]


@pytest.mark.parametrize(
    "body",
    [
        "s = s - s.amax(-1, keepdim=True).detach()\n    return s.softmax(-1) @ v",
        "m = s.detach().max(-1, keepdim=True).values\n    e = torch.exp(s - m)\n    return e @ v / e.sum(-1, True)",
        "with torch.no_grad():\n        m = s.amax(-1, keepdim=True)\n    e = (s - m).exp()\n"
        "    return (e / e.sum(-1, True)) @ v",
        "m = torch.max(s, -1, True)[0].detach()\n    lse = (s - m).exp().sum(-1, True).log() + m\n"
        "    return (s - lse).exp() @ v",
        "p = s.softmax(-1)\n    return p @ v, p.detach()",
        "p = s.softmax(-1)\n    kept = p.detach().cpu() if full else None\n    return p @ v, kept",
        "p = s.softmax(-1)\n    return (p @ v, p.detach()) if full else p @ v",
        "with torch.no_grad():\n        t = 10000 ** (-torch.arange(0, 8, 2) / 8)\n"
        "    return (s * t.mean()).softmax(-1) @ v",
    ],
)
def test_what_is_harmless_as_a_rule_is_a_note(body: str) -> None:
    assert set(severities(f"def attention(q, k, v, full=False):\n    s = q @ k.mT\n    {body}\n")) == {"note"}


@pytest.mark.parametrize(
    "body",
    [
        "s = s - s.amax(-1, keepdim=True).detach()\n    return s.sigmoid() @ v",
        "m = s.amax(-1, keepdim=True).detach()\n    return (s - m).softmax(-1) @ v * m",
        "s = s - s.mean(-1, keepdim=True).detach()\n    return s.softmax(-1) @ v",
        "p = s.softmax(-1)\n    return p.detach() @ v, p",
        "p = s.softmax(-1)\n    return p @ v, -(p.detach() * s).sum(-1)",
        "p = s.softmax(-1).detach()\n    return p @ v, p",
        "with torch.no_grad():\n        t = v.mean()\n    return (s * t).softmax(-1) @ v",
    ],
)
def test_what_only_looks_like_it_is_none(body: str) -> None:
    assert severities(f"def attention(q, k, v):\n    s = q @ k.mT\n    {body}\n") == ["error"]


ONLINE = """
def online_attention(query, key, value, block=16):
    running = query.new_full(query.shape[:-1], float("-inf"))
    total, out = query.new_zeros(query.shape[:-1]), torch.zeros_like(query)
    for start in range(0, key.shape[-2], block):
        logits = query @ key[..., start : start + block, :].mT
        fresh = torch.maximum(running, logits.amax(-1)).detach()
        weights = torch.exp(logits - fresh[..., None])
        scale = torch.exp(running - fresh)
        out = out * scale[..., None] + weights @ value[..., start : start + block, :]
        total, running = total * scale + weights.sum(-1), fresh
    return {result}
"""
HELPER = """
def _shift(logits):
    return logits - torch.amax(logits, dim=-1, keepdim=True).detach()

def attention(query, key, value):
    weights = _shift(query @ key.mT).exp()
    return {result}
"""
CODEBOOK = """
def update_codebook(query, key, value, decay=0.9):
    with torch.no_grad():
        onehot = F.one_hot((query @ key.T).argmax(-1), key.shape[0]).to(value.dtype)
        {update}
    return {result}
"""


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        (ONLINE.format(result="out / total[..., None]"), "note"),
        (ONLINE.format(result="out / total[..., None] * running[..., None]"), "error"),
        (HELPER.format(result="weights @ value / weights.sum(-1, keepdim=True)"), "note"),
        (HELPER.format(result="weights @ value"), "error"),
        (CODEBOOK.format(update="key.mul_(decay).add_(onehot.T @ query)", result="key"), "note"),
        (CODEBOOK.format(update="key.lerp_(onehot.T @ query, 1 - decay)", result="key"), "note"),
        (CODEBOOK.format(update="key.copy_(onehot.T @ query)", result="key"), "error"),
        (CODEBOOK.format(update="key.mul_(decay).add_(onehot.T @ query)", result="query @ key.T @ value"), "error"),
        (CODEBOOK.format(update="key.mul_(decay); query.copy_(onehot)", result="query"), "error"),
    ],
)
def test_upkeep_and_running_maxima_are_notes_and_what_resembles_them_is_none(code: str, severity: str) -> None:
    assert severities(code) == [severity]


@pytest.mark.parametrize(
    "code",
    [
        "@torch.no_grad()\ndef evaluate(model, query, key, value, labels):\n"
        "    return (model(query, key, value).argmax(-1) == labels).float().mean()\n",
        "@torch.inference_mode()\ndef retrieval_accuracy(query, key, labels):\n"
        "    return ((query @ key.T).argmax(-1) == labels).float().mean().item()\n",
        "def attention_entropy(query, key):\n    with torch.no_grad():\n"
        "        p = torch.softmax(query @ key.mT, -1)\n        return -(p * p.log()).sum(-1).mean()\n",
        "class Cache:\n    def update(self, query, key, value):\n        with torch.no_grad():\n"
        "            self.keys[:, self.at] = key\n            self.values[:, self.at] = value\n",
        "@torch.no_grad()\ndef benchmark(query, key, value):\n    torch.softmax(query @ key.mT, -1) @ value\n",
    ],
)
def test_loops_that_evaluate_and_keep_are_nothing(code: str) -> None:
    assert severities(code) == []


MODULE = (
    "class Attention(nn.Module):\n    def forward(self, x):\n        q, k, v = self.qkv(x).chunk(3, -1)\n"
    "        p = (q @ k.mT).softmax(-1)\n        {}\n        return p @ v\n"
)


@pytest.mark.parametrize(
    "code",
    [
        MODULE.format("self.last = p.detach()"),
        MODULE.format("self.maps.append(p.detach().cpu())"),
        MODULE.format("self.logger.info('%s', p.detach().mean())"),
        MODULE.format("print(p.detach().max())"),
        MODULE.format("self.log('peak', p.max().detach())"),
        MODULE.format("if (p.detach() > 1).any(): raise ValueError"),
        "@torch.no_grad()\ndef ema_update(query, key, value, m):\n    key.mul_(m).add_(query)\n    return value\n",
        "@torch.no_grad()\ndef momentum(query, key, value):\n    key.data = query.data * 0.1\n    return value\n",
        "def copy_weights(query, key, value):\n    key.data.copy_(query.data)\n",
        "def load_qkv(q, k, v, state):\n    q.data.copy_(state['q'])\n    return q\n",
        "def plot(q, k, v, ax):\n    return ax.imshow((q @ k.mT).softmax(-1).detach().numpy())\n",
        "def attention_entropy(q, k, v):\n    with torch.no_grad():\n        p = (q @ k.mT).softmax(-1)\n"
        "        return -(p * p.log()).sum(-1).mean().item()\n",
        "def recall(query, key, value):\n    with torch.no_grad():\n        top = (query @ key.T).softmax(-1) @ value\n"
        "    return {'recall': top.mean().item(), 'size': len(top)}\n",
        "def visualize(query, key, value):\n    return torch.softmax(query @ key.mT, -1).detach()\n",
        "class KVCache:\n    def update(self, q, k, v):\n        self.k = k.detach()\n        return self.k, v\n",
        "def step(model, optimizer, q, k, v):\n    loss = ((q @ k.mT).softmax(-1) @ v).mean()\n    loss.backward()\n"
        "    optimizer.step()\n    return loss.detach()\n",
        MODULE.format("pass") + "@torch.no_grad()\ndef evaluate(x):\n    return Attention()(x).argmax(-1)\n",
        MODULE.format("pass") + "def validate(x):\n    with torch.no_grad():\n        return Attention()(x).mean()\n",
        MODULE.format("pass") + "class Lit(nn.Module):\n    def __init__(self): self.net = Attention()\n"
        "    def forward(self, x): return self.net(x)\n"
        "    def validation_step(self, x):\n        with torch.no_grad(): return self.net(x).mean().item()\n",
        MODULE.format("pass") + "class Model(nn.Module):\n    def __init__(self): self.net = Attention()\n"
        "    def forward(self, x): return self.net(x)\n"
        "    @torch.no_grad()\n    def generate(self, x): return self(x.detach())\n",
        MODULE.format("pass") + "def penalty(x):\n    out = Attention()(x)\n"
        "    return torch.autograd.grad(out.sum(), x)[0].norm().item()\n",
    ],
)  # fmt: skip
def test_who_watches_keeps_or_trains_is_silent(code: str) -> None:
    assert severities(code) == []


@pytest.mark.parametrize("used", ["self.last.mean()", "self.last"])
def test_an_attribute_that_attention_reads_is_not_aside(used: str) -> None:
    code = MODULE.format("self.last = p.detach()").replace("return p @ v", f"return p @ v * {used}")
    assert severities(code) == ["error"]


def test_a_note_alone_fails_no_run(lint: Lint, folder: Path) -> None:
    kernel = "import torch\n\n\ndef attention(q, k, v):\n    s = q @ k.mT\n    s = s - s.{}(-1, True).detach()\n"
    kernel += "    return s.softmax(-1) @ v\n"
    (folder / "maximum.py").write_text(kernel.format("amax"))
    (folder / "mean.py").write_text(kernel.format("mean"))
    found = lint("maximum.py")
    assert "(note)" in found.output
    assert found.exit_code == 0
    assert lint("mean.py").exit_code == 1
