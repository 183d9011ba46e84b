"""Attention without products of queries and keys, the code around attention, and what a module binds to a name."""

from __future__ import annotations

import pytest

from theria_lint.model import TargetKind
from theria_lint.rules.loader import load_rules
from theria_lint.static.scan import scan_source
from theria_lint.static.targets import find_targets

RULES = load_rules()
HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"


def suspects(code: str) -> list[str]:
    found = scan_source("file.py", HEAD + code, RULES)
    assert found == scan_source("file.py", HEAD + code, RULES, prefilter=False)
    return [suspect.symbol for suspect in found]


def targets(code: str) -> dict[str, TargetKind]:
    return {target.symbol: target.kind for target in find_targets("file.py", HEAD + code)}


INPUTS = "    def forward(self, x, mask=None):\n"


@pytest.mark.parametrize(
    "body",
    [
        "a = F.leaky_relu(self.a(x) + self.b(x).mT).softmax(-1)\n        return a.detach() @ self.v(x)",
        "weights = torch.softmax(self.score(torch.tanh(self.w(x))), dim=1)\n"
        "        return (weights.detach() * x).sum(1)",
        "e = self.score(x).exp()\n        p = (e / e.sum(1, keepdim=True)).detach()\n"
        "        return (p * self.v(x)).sum(1)",
        "src, dst = mask\n        e = torch.exp(self.a(x)[src] + self.b(x)[dst])\n"
        "        norm = torch.zeros_like(x[:, :1]).index_add(0, dst, e)\n"
        "        return torch.zeros_like(x).index_add(0, dst, (e / norm[dst]).detach() * self.v(x)[src])",
        "src, dst = mask\n        e = torch.exp(self.a(x)[src] + self.b(x)[dst])\n"
        "        norm, out = torch.zeros_like(x[:, :1]), torch.zeros_like(x)\n        norm.index_add_(0, dst, e)\n"
        "        out.index_add_(0, dst, (e / norm[dst]).detach() * self.v(x)[src])\n        return out",
        "alpha = scatter_softmax(self.a(x), mask)\n        return torch.einsum('e,ed->ed', alpha.detach(), self.v(x))",
        "return torch.mul(entmax15(self.score(x)).detach(), self.v(x)).sum(-2)",
    ],
    ids=["additive", "pooling", "by hand", "on edges", "in place", "scatter", "entmax"],
)
def test_normalised_scores_that_weigh_values_are_attention(body: str) -> None:
    code = f"class Mixer(nn.Module):\n{INPUTS}        {body}\n"
    assert suspects(code) == ["Mixer.forward"]
    assert targets(code) == {"Mixer": TargetKind.MODULE}


def test_a_public_function_that_weighs_values_is_a_target_whatever_its_name() -> None:
    body = "(x, w):\n    return (torch.softmax(x @ w, 0)[:, None] * x).sum(0)\n"
    assert targets(f"def pool{body}") == {"pool": TargetKind.FUNCTION}
    assert targets(f"def _pool{body}") == {}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("Mixer", "return torch.softmax(x, -1).detach() * x"),
        ("Mixer", "return (torch.softmax(self.gate(x), -1) * self.experts(x)).detach()"),
        ("Mixer", "p = self.head(x).softmax(-1)\n        return -(p * p.log()).sum().detach()"),
        ("Mixer", "return (self.weights.softmax(0) * 2.0 * self.bias).sum().detach() + x"),
        ("Mixer", "e = (-x).exp()\n        return (x / (1 + e)).detach() * x"),
        ("FocalLoss", "p = self.head(x).softmax(-1)\n        return (p * mask).sum().detach()"),
        ("TopKRouter", "return (self.w(x).softmax(-1) * self.v(x)).detach()"),
    ],
)
def test_other_softmaxes_weigh_no_values(name: str, body: str) -> None:
    code = f"class {name}(nn.Module):\n{INPUTS}        {body}\n"
    assert (suspects(code), targets(code)) == ([], {})


MEMORY = (
    "        q, k, v = self.q(x), self.k(x), self.v(x)\n"
    "        w = self.w.detach().requires_grad_()\n"
    "        g, = torch.autograd.grad(((self.read(k, w) - v) ** 2).sum(), w, create_graph=True)\n"
    "        return self.read(q, self.w - g)\n"
)


@pytest.mark.parametrize(
    "code",
    [
        f"class Layer(nn.Module):\n{INPUTS}{MEMORY}",
        "class FastWeights(nn.Module):\n    def step(self, x, w):\n        w = w.detach().requires_grad_()\n"
        "        return w - torch.autograd.grad(self.loss(x, w), w, create_graph=True)[0]\n"
        "    def forward(self, x): return x @ self.step(x, self.w)\n",
        "from torch.func import grad\ndef update(keys, values, w):\n"
        "    return w - grad(lambda w: ((keys @ w - values) ** 2).sum())(w.detach())\n",
    ],
)
def test_a_memory_that_is_written_by_gradients_is_attention(code: str) -> None:
    assert len(suspects(code)) == 1
    assert len(targets(code)) <= 1


ATTENTION = (
    "class Attention(nn.Module):\n    def forward(self, x):\n        q, k, v = self.qkv(x).chunk(3, -1)\n"
    "        return (q @ k.mT).softmax(-1) @ v\n"
    "def attention(q, k, v): return (q @ k.mT).softmax(-1) @ v\n"
)
OWNER = "    def __init__(self):\n        super().__init__()\n        self.mix = {}\n"


@pytest.mark.parametrize(
    ("code", "symbols"),
    [
        (f"class Block(nn.Module):\n{OWNER.format('Attention()')}"
         "    def forward(self, x): return x + self.mix(x).detach()\n", ["Block.forward"]),
        (f"class Block(nn.Module):\n{OWNER.format('None')}"
         "        self.attend, self.out = Attention(), nn.Linear(2, 2)\n"
         "    def forward(self, x): return self.out(self.attend(x.detach()))\n", ["Block.forward"]),
        (f"class Stack(nn.Module):\n{OWNER.format('nn.ModuleList(Attention() for _ in range(2))')}"
         "    def forward(self, x):\n        for layer in self.mix: x = layer(x.detach())\n        return x\n",
         ["Stack.forward"]),
        (f"class Stack(nn.Module):\n{OWNER.format('nn.ModuleList([])')}        layer = Attention()\n"
         "        self.mix.append(nn.ModuleList([layer, nn.Linear(2, 2)]))\n"
         "    def forward(self, x):\n        for mix, out in self.mix: x = out(mix(x.detach()))\n        return x\n",
         ["Stack.forward"]),
        (f"class Unit(nn.Module):\n    def forward(self, w): return w / w.norm().detach()\n"
         f"class Block(nn.Module):\n{OWNER.format('Attention()')}"
         "        parametrize.register_parametrization(self.mix.q, 'weight', Unit())\n"
         "    def forward(self, x): return self.mix(x)\n", ["Unit.forward"]),
        (f"class Block(nn.Module):\n{OWNER.format('Attention()')}    def _run(self, x): return self.mix(x.detach())\n"
         "    def forward(self, x): return self._run(x)\n", ["Block._run"]),
        (f"class Inner(nn.Module):\n{OWNER.format('Attention()')}    def forward(self, x): return self.mix(x)\n"
         f"class Outer(nn.Module):\n{OWNER.format('Inner()')}    def forward(self, x): return self.mix(x.detach())\n",
         ["Outer.forward"]),
        ("def block(x, w): return x + attention(x @ w, x, x).detach()\n", ["block"]),
        ("from torch.utils.checkpoint import checkpoint\n"
         "def block(x, w): return checkpoint(attention, x, x.detach(), w, use_reentrant=False)\n", ["block"]),
        ("def slope(energy, x):\n    x = x.detach().requires_grad_()\n"
         "    return torch.autograd.grad(energy(x).sum(), x, create_graph=True)[0]\n"
         "def main(x):\n    model = Attention()\n    return slope(model, x)\n", ["slope"]),
        (f"class Heir(Attention):\n{OWNER.format('nn.Linear(2, 2)')}        self.register_hook(lambda g: g.detach())\n",
         ["Heir.__init__"]),
    ],
)  # fmt: skip
def test_the_code_around_attention_is_attention_code(code: str, symbols: list[str]) -> None:
    assert suspects(ATTENTION + code) == symbols


@pytest.mark.parametrize(
    "code",
    [
        "from .layers import CrossAttention\nclass Block(nn.Module):\n"
        f"{OWNER.format('CrossAttention(8)')}    def forward(self, x): return self.mix(x.detach())\n",
        "from .layers import TransformerBlock\nclass Block(nn.Module):\n"
        f"{OWNER.format('nn.Sequential(TransformerBlock(8))')}    def forward(self, x): return self.mix(x.detach())\n",
        "class Block(nn.Module):\n    def __init__(self, attn):\n        self.attn = attn\n"
        "    def forward(self, x): return self.attn(x.detach())\n",
        "class Block(nn.TransformerEncoderLayer):\n    def _sa_block(self, x, *rest): return x.detach()\n",
        "from .ops import fused_attention\nclass Block(nn.Module):\n"
        "    def forward(self, x): return fused_attention(x, x.detach())\n",
        "from torch_geometric.nn import MessagePassing\nclass Block(MessagePassing):\n"
        "    def edge_update(self, a, index): return softmax(a, index)\n"
        "    def message(self, x_j, alpha): return alpha * x_j.detach()\n"
        "    def forward(self, x, edges): return self.propagate(edges, x=x)\n",
        "class Block:\n    def __call__(self, attn, hidden):\n"
        "        query, key, value = attn.to_q(hidden), attn.to_k(hidden), attn.to_v(hidden)\n"
        "        return attn.mix(query.detach(), key, value)\n",
    ],
    ids=["imported", "transformer", "given", "kin", "function", "graph", "processor"],
)
def test_what_runs_attention_of_other_files_is_a_target_and_attention_code(code: str) -> None:
    assert len(suspects(code)) == 1
    assert set(targets(code)) == {"Block"}


WRAP = (
    "class Around(nn.Module):\n    def __init__(self, dim, inner):\n        super().__init__()\n"
    "        self.inner = inner\n    def forward(self, x): return self.inner(x.detach())\n"
)
IN_INIT = f"class Block(nn.Module):\n{OWNER}    def forward(self, x): return self.mix(x)\n"


@pytest.mark.parametrize(
    "code",
    [
        IN_INIT.format("Around(8, Attention())"),
        IN_INIT.format("Around(8, inner=Attention())"),
        IN_INIT.format("None\n        self.out, self.mix = nn.Linear(2, 2), Around(8, Attention())"),
        IN_INIT.format("nn.ModuleList([Around(8, nn.Sequential(nn.Linear(8, 8), Attention()))])[0]"),
        IN_INIT.format("Attention()\n        self.mix = Around(8, self.mix)"),
        "def build():\n    layer = Attention()\n    return Around(8, layer)\n",
        "class Heir(Around):\n    def __init__(self): super().__init__(8, Attention())\n",
        "model = Around(8, attention)\n",
    ],
    ids=["by place", "by name", "one of two", "within", "of the instance", "of a variable", "by an heir", "a function"],
)
def test_what_is_handed_attention_and_calls_it_is_a_target_and_attention_code(code: str) -> None:
    assert "Around" in targets(ATTENTION + WRAP + code)
    assert suspects(ATTENTION + WRAP + code) == ["Around.forward"]


def test_what_calls_its_layers_in_a_method_of_its_own_is_a_target_too() -> None:
    wrap = WRAP.replace("forward(self", "_run(self") + "    def forward(self, x): return self._run(x)\n"
    assert suspects(ATTENTION + wrap + "model = Around(8, Attention())\n") == ["Around._run"]


@pytest.mark.parametrize(
    "code",
    [
        IN_INIT.format("Around(8, nn.Linear(8, 8))"),
        IN_INIT.format("Around(Attention(), nn.Linear(8, 8))"),
        "model = Around(*Attention())\n",
    ],
    ids=["something else", "for another parameter", "nobody knows what"],
)
def test_what_is_handed_something_else_is_none(code: str) -> None:
    assert "Around" not in targets(ATTENTION + WRAP + code)


def test_who_makes_a_wrapper_without_attention_runs_none() -> None:
    code = (
        f"{ATTENTION}{WRAP}{IN_INIT.format('Around(8, nn.Linear(8, 8))')}def build(): return Around(8, Attention())\n"
    )
    assert targets(code).keys() == {"Attention", "attention", "Around"}


@pytest.mark.parametrize(
    "name",
    ["train", "evaluate", "predict", "build_block", "plot_weights", "count_flops", "generate", "main", "fit_epoch"],
)
def test_who_trains_or_watches_attention_is_not(name: str) -> None:
    code = f"def {name}(x, w): return x + attention(x @ w, x, x).detach()\n"
    assert (suspects(ATTENTION + code), set(targets(ATTENTION + code))) == ([], {"Attention", "attention"})


@pytest.mark.parametrize(
    "bound",
    [
        "torch.compile(attention)",
        "torch.compile(mode='default')(attention)",
        "functools.partial(attention)",
        "torch.vmap(attention)",
        "functools.partial(torch.utils.checkpoint.checkpoint, attention, use_reentrant=False)",
        "make()",
        "wrap(attention)",
        "Attention(8)",
        "nn.MultiheadAttention(16, 2)",
        "nn.Sequential(nn.Linear(8, 8), Attention(8))",
        "functools.partial(Plain.run, Plain())",
        "Attention.run",
    ],
)
def test_attention_that_a_module_binds_to_a_name_is_a_target(bound: str) -> None:
    code = (
        f"{ATTENTION}import functools\n"
        "class Plain:\n    def run(self, q, k, v): return attention(q, k, v)\n"
        "def make():\n    def inner(q, k, v): return attention(q, k, v)\n    return inner\n"
        "def wrap(f):\n    def inner(*args): return f(*args)\n    return inner\n"
    )
    found = {target.symbol: target for target in find_targets("file.py", f"{HEAD}{code}bound = {bound}\n")}
    if bound == "Attention.run":
        assert "bound" not in found
    else:
        assert found["bound"].kind is TargetKind.FUNCTION
        wanted = "Attention.forward" if "Attention(8)" in bound else "bound" if "Multihead" in bound else "attention"
        assert {"bound", wanted} <= found["bound"].reaches


def test_what_a_module_makes_of_other_things_is_none() -> None:
    code = f"{ATTENTION}table = dict(a=attention)\nother = torch.compile(abs)\nlayer = nn.Linear(2, 2)\n"
    assert set(targets(code)) == {"Attention", "attention"}


def test_a_suspect_of_a_module_is_known_by_the_name_that_it_gives() -> None:
    code = f"{ATTENTION}import functools\nfrom torch.utils.checkpoint import checkpoint\n"
    code += "again = functools.partial(checkpoint, use_reentrant=True)\n"
    code += "def run(q, k, v): return again(attention, q, k, v)\n"
    assert suspects(code) == ["again"]
    (suspect,) = scan_source("file.py", HEAD + code, RULES)
    (target,) = (found for found in find_targets("file.py", HEAD + code) if found.may_execute(suspect))
    assert target.symbol == "run"
    assert suspect.reach[0] == target.line


@pytest.mark.parametrize("given", ["causal", "", "scale: float, causal=False"])
def test_a_function_of_q_k_and_v_that_another_returns_is_a_target(given: str) -> None:
    made = f"def build({given}):\n    def run(q, k, v): return (q @ k.mT).softmax(-1) @ v\n    return run\n"
    assert targets(made) == {"build.run": TargetKind.FUNCTION}
    assert targets(made.replace("return run", "return 1")) == {}
    assert targets(made.replace("(q @ k.mT).softmax(-1) @ v", "attention(q, k, v)")) == {
        "build.run": TargetKind.FUNCTION
    }


def test_what_only_a_run_of_the_file_itself_binds_is_no_target() -> None:
    assert targets('if __name__ == "__main__":\n    block = nn.MultiheadAttention(16, 2)\n') == {}
