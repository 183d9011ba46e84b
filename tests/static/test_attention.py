"""What is attention code, and what can be run: hits and near misses."""

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


@pytest.mark.parametrize(
    "signature",
    ["q, k, v", "query, key, value", "self, queries, keys, values", "xq, xk, xv", "mask, q_states, k_states, v_states",
     "query_layer, key_layer, value_layer", "Q, K, V", "*, q, k, v", "q_, k_, v_"],
)  # fmt: skip
def test_parameters_make_a_function_attention(signature: str) -> None:
    assert suspects(f"def compute({signature}):\n    return torch.ones(3).detach()\n") == ["compute"]


@pytest.mark.parametrize(
    "signature", ["x", "key, value", "q, k", "a, b, c", "queue, kwargs, version", "self, k, v", "quality, kind, volume"]
)
def test_other_parameters_do_not(signature: str) -> None:
    assert suspects(f"def compute({signature}):\n    return torch.ones(3).detach()\n") == []


@pytest.mark.parametrize(
    "body",
    [
        "(x @ w).softmax(-1) @ x",
        "torch.bmm(torch.softmax(torch.bmm(x, w), -1), x)",
        "torch.einsum('ij,jk->ik', F.softmax(torch.einsum('ij,kj->ik', x, w), dim=-1), x)",
    ],
)
def test_matmul_softmax_matmul_makes_a_function_attention(body: str) -> None:
    assert suspects(f"def mix(x, w):\n    return ({body}).detach()\n") == ["mix"]


@pytest.mark.parametrize("body", ["(x @ w).softmax(-1)", "x @ w @ x", "x.softmax(-1)", "(x.softmax(-1) * x).sum()"])
def test_a_part_of_it_does_not(body: str) -> None:
    assert suspects(f"def mix(x, w):\n    return ({body}).detach()\n") == []


@pytest.mark.parametrize(
    "body",
    [
        "q, k, v = self.qkv(x).chunk(3, -1)\n        return torch.sigmoid(q @ k.mT).detach() @ v",
        "q, k, v = rearrange(self.qkv(x), 'b n (three d) -> three b n d', three=3)\n"
        "        return torch.einsum('nd,de->ne', q, torch.einsum('nd,ne->de', F.elu(k) + 1, v).detach())",
        "query = self.a(x)\n        key = self.b(x)\n        value = self.c(x)\n"
        "        s = (query * 2) @ key.mT\n        return (s.detach() / s.shape[-1]) @ value",
        "q, k, v = self.p(x).unbind(2)\n        return delta_rule(q, k, v, beta=self.beta).detach()",
        "q = self.q(x)\n        if (k := self.k(x)) is not None:\n            v = self.v(x)\n"
        "        return F.relu(q @ k.mT).detach() @ v",
    ],
    ids=["sigmoid", "feature map", "plain", "passed on", "walrus"],
)
def test_making_and_multiplying_q_k_and_v_is_attention_however_it_is_normalised(body: str) -> None:
    code = f"class Mixer(nn.Module):\n    def forward(self, x):\n        {body}\n"
    assert suspects(code) == ["Mixer.forward"]
    assert targets(code) == {"Mixer": TargetKind.MODULE}


@pytest.mark.parametrize(
    "body",
    [
        "q, k, v = self.p(x)\n        return (q @ k).detach()",
        "q, k, v = self.p(x)\n        return (q @ k @ q).detach() + v",
        "for q, k, v in x:\n            x = (q @ k @ v).detach()\n        return x",
        "k, v = self.p(x)\n        return (x @ k @ v).detach()",
    ],
    ids=["one product", "v is added", "a loop's names", "no query"],
)
def test_other_uses_of_these_names_are_not(body: str) -> None:
    code = f"class Mixer(nn.Module):\n    def forward(self, x):\n        {body}\n"
    assert (suspects(code), targets(code)) == ([], {})


WEIGHTS = "def scores(a, b):\n    return torch.softmax(a @ b.mT, -1)\n"


@pytest.mark.parametrize(
    ("helper", "use"),
    [
        (WEIGHTS, "scores(self.a(x), self.b(x)).detach() @ self.c(x)"),
        (WEIGHTS, "torch.matmul((w := scores(self.a(x), self.b(x)).detach()), x)"),
        (f"{WEIGHTS}mix = scores\n", "torch.bmm(mix(x, x).detach(), x)"),
        (
            "class Scores(nn.Module):\n    def forward(self, a, b):\n        return F.softmax(a @ b, -1)\n",
            "torch.einsum('ij,jk', Scores()(x, x).detach(), x)",
        ),
    ],
)
def test_attention_that_is_split_over_a_helper_is_seen(helper: str, use: str) -> None:
    code = f"{helper}class Layer(nn.Module):\n    def forward(self, x):\n        return {use}\n"
    assert suspects(code) == ["Layer.forward"]
    assert targets(code)["Layer"] == TargetKind.MODULE


@pytest.mark.parametrize(
    "use", ["scores(x, x).detach()", "scores(x, x).detach() * x", "(scores(x, x).sum().detach(), x @ x)"]
)
def test_weights_that_nothing_multiplies_are_none(use: str) -> None:
    assert suspects(f"{WEIGHTS}class Layer(nn.Module):\n    def forward(self, x):\n        return {use}\n") == []


def test_a_router_makes_no_weights() -> None:
    code = "def route(x, w): return F.softmax(x @ w, -1)\nclass Router(nn.Module):\n    def forward(self, x):\n"
    assert suspects(f"{code}        return route(x, x).detach() @ x\n") == []


def test_a_class_that_calls_multihead_attention_is_attention_whatever_its_name() -> None:
    code = (
        "class Block(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.mixer = nn.MultiheadAttention(4, 2)\n"
        "    def forward(self, x): return self.mixer(x, x, x)[0].detach()\n"
        "class Holder(Block):\n    def forward(self, x): return self.other(x).detach()\n"
    )
    assert [s for s in suspects(code) if s != "Block.__init__"] == ["Block.forward"]
    assert targets(code) == {"Block": TargetKind.MODULE}


@pytest.mark.parametrize(
    "alias",
    ["from flash_attn import flash_attn_func as fa", "import flash_attn\nfa = flash_attn.flash_attn_func",
     "from xformers.ops import memory_efficient_attention as op\nfa = op"],
)  # fmt: skip
def test_an_operation_is_known_by_any_name(alias: str) -> None:
    assert "run" in suspects(f"{alias}\ndef run(x, y): return fa(x, x, y).detach()\n")


def test_a_named_lambda_is_a_function() -> None:
    code = (
        "stop = lambda x: x.detach()\n"
        "attention = lambda q, k, v: (stop(q) @ k.mT).softmax(-1) @ v.detach()\n"
        "class Ops:\n    weigh = lambda q, k, v: q.detach()\n"
        "other = lambda a: a.detach()\n"
    )
    assert suspects(code) == ["stop", "attention", "Ops.weigh"]
    assert targets(code)["attention"] == TargetKind.FUNCTION


def test_helpers_that_attention_calls_are_attention_code_through_every_way() -> None:
    code = (
        "def helper(x): return x.detach()\n"
        "def deeper(x): return helper(x)\n"
        "class Rotary(nn.Module):\n    def forward(self, x): return x.detach()\n"
        "class Cut(torch.autograd.Function):\n"
        "    @staticmethod\n    def forward(ctx, x): return x.detach()\n"
        "    @staticmethod\n    def backward(ctx, g): return g.detach()\n"
        "cut = Cut.apply\n"
        "class Base(nn.Module):\n"
        "    def forward(self, q, k, v): return self.mix(deeper(self.rotary(cut(q))), k, v)\n"
        "class Mine(Base):\n"
        "    def __init__(self):\n        super().__init__()\n        self.rotary = Rotary()\n"
        "    def mix(self, q, k, v): return self._inner(q)\n"
        "    def _inner(self, q): return q.detach()\n"
        "def unrelated(x): return x.detach()\n"
    )
    assert suspects(code) == ["helper", "Cut.forward", "Cut.backward", "Mine._inner"]


def test_a_submodule_of_the_class_itself_is_followed() -> None:
    code = (
        "class Rotary(nn.Module):\n    @torch.no_grad()\n    def forward(self, x): return x\n"
        "class SelfAttention(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.rotary = Rotary()\n"
        "    def forward(self, x): return self.rotary(x)\n"
    )
    assert suspects(code) == ["Rotary.forward"]


@pytest.mark.parametrize("name", ["_init_weights", "reset_parameters", "generate", "load_weights", "extra_repr"])
def test_methods_outside_the_forward_path_are_not(name: str) -> None:
    code = (
        "class SelfAttention(nn.Module):\n    def forward(self, x): return x\n"
        f"    @torch.no_grad()\n    def {name}(self, x):\n        self.w.data.fill_(x.detach())\n"
    )
    assert suspects(code) == []


@pytest.mark.parametrize(
    "definition",
    ["def test_attention(q, k, v):", "@triton.jit\ndef attention(q, k, v):", "def make_attention_mask(x):",
     "def attention_config(x):", "class AttentionConfig:\n  def forward(self, x):"],
)  # fmt: skip
def test_what_only_sounds_like_attention_is_not(definition: str) -> None:
    assert suspects(f"import triton\n{definition}\n    return x.detach()\n") == []


def test_functions_modules_autograd_functions_and_wrappers_are_targets() -> None:
    code = (
        "from torch.autograd import Function as Fn\n"
        "def attention(q, k, v): return q\n"
        "def packed_attention(qkv): return qkv\n"
        "class Module(nn.Module): pass\n"
        "class CrossAttention(Module):\n    def forward(self, x): return x\n"
        "class Block(nn.Module):\n    def forward(self, query, key, value): return query\n"
        "class Flash(Fn):\n"
        "    @staticmethod\n    def forward(ctx, q, k, v): return q\n"
        "    @staticmethod\n    def backward(ctx, g): return g, g, g\n"
        "def wrap(attn_fn):\n    def inner(q, k, v): return attn_fn(q, k, v)\n    return inner\n"
        "def wrap_lambda(base): return lambda q, k, v: base(q, k, v)\n"
        "def applied(q, k, v, attention_fn): return attention_fn(q, k, v)\n"
    )
    assert targets(code) == {
        "attention": TargetKind.FUNCTION,
        "packed_attention": TargetKind.FUNCTION,
        "CrossAttention": TargetKind.MODULE,
        "Block": TargetKind.MODULE,
        "Flash": TargetKind.AUTOGRAD_FUNCTION,
        "wrap": TargetKind.WRAPPER,
        "wrap_lambda": TargetKind.WRAPPER,
        "applied": TargetKind.WRAPPER,
    }


def test_objects_static_methods_assigned_forwards_and_heirs_are_targets() -> None:
    code = (
        "from elsewhere import BaseAttention, Thing\n"
        "class Scaled:\n    def __init__(self, scale): self.scale = scale\n    def __call__(self, q, k, v): return q\n"
        "class Ops:\n"
        "    @staticmethod\n    def run(q, k, v): return q\n"
        "    @classmethod\n    def other(cls, query, key, value): return query\n"
        "    def bound(self, q, k, v): return q\n"
        "    def __matmul__(self, q, k, v): return q\n"
        "    @property\n    def run_of(self, q, k, v): return q\n"
        "    class Inner:\n        @staticmethod\n        def deep(q, k, v): return q\n"
        "class Heir(Ops):\n    def further(self, q, k, v): return q\n"
        "def _forward(self, x):\n    q, k, v = self.p(x)\n    return (q @ k).relu() @ v\n"
        "class Mixer(nn.Module):\n    forward = _forward\n"
        "class Mine(BaseAttention):\n    def mix(self, q, k, v): return q\n"
        "class Same(BaseAttention):\n    pass\n"
        "class Other(Thing):\n    def mix(self, q, k, v): return q\n"
        "class Called:\n    def __call__(self, x): return x\n"
    )
    assert targets(code) == {
        "Scaled": TargetKind.FUNCTION,
        "Ops.run": TargetKind.FUNCTION,
        "Ops.other": TargetKind.FUNCTION,
        "Ops.bound": TargetKind.FUNCTION,
        "Ops.Inner.deep": TargetKind.FUNCTION,
        "Heir.further": TargetKind.FUNCTION,
        "Mixer": TargetKind.MODULE,
        "Mine": TargetKind.MODULE,
    }


def test_attention_that_is_named_after_a_derivative_is_a_target() -> None:
    code = "def jvp_attention(q, k, v): return (q @ k.mT).softmax(-1) @ v\n"
    assert targets(code) == {"jvp_attention": TargetKind.FUNCTION}
    assert targets("def attention_jvp(q, k, v, dq, dk, dv): return (q @ k.mT).softmax(-1) @ dv\n") == {}


def test_halves_kernels_tests_and_abstract_ones_are_no_targets() -> None:
    code = (
        "import triton\nfrom abc import ABC, abstractmethod\n"
        "@triton.jit\ndef kernel(q, k, v): pass\n"
        "def _forward(q, k, v): return _inner(q, k, v)\n"
        "def _inner(q, k, v): return q\n"
        "def attention_bwd(q, k, v): return q\n"
        "def _grads(q, k, v, do): return do\n"
        "class Flash(torch.autograd.Function):\n"
        "    @staticmethod\n    def forward(ctx, q, k, v): return _forward(q, k, v)\n"
        "    @staticmethod\n    def backward(ctx, g): return g, g, g\n"
        "@torch.library.register_fake('ns::attention')\ndef attention_shapes(q, k, v): return q\n"
        "def validate_inputs(q, k, v): assert q.ndim == k.ndim == v.ndim\n"
        "class BaseAttention(nn.Module):\n    def forward(self, x): raise NotImplementedError\n"
        "class AbstractAttention(nn.Module, ABC):\n    @abstractmethod\n    def forward(self, x): ...\n"
        "def test_attention(q, k, v): return _forward(q, k, v)\n"
        "def split_qkv(qkv): return qkv\n"
    )
    assert targets(code) == {"Flash": TargetKind.AUTOGRAD_FUNCTION}


def test_attention_without_a_backward_is_a_target() -> None:
    code = "class Forward(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, q, k, v): return q\n"
    assert targets(code) == {"Forward": TargetKind.AUTOGRAD_FUNCTION}


def test_a_function_that_only_backwards_run_is_no_target() -> None:
    apply = "    @staticmethod\n    def {}(ctx, {}): return {}\n"
    code = (
        "class Grad(torch.autograd.Function):\n"
        + apply.format("forward", "q, k, v, g", "q")
        + apply.format("backward", "*a", "a")
        + "def by_hand(q, k, v, do): return Grad.apply(q, k, v, do)\n"
        "class Attention(torch.autograd.Function):\n"
        + apply.format("forward", "q, k, v", "q")
        + apply.format("backward", "g", "Grad.apply(*ctx.saved_tensors, g), by_hand(*ctx.saved_tensors, g)")
        + "def test(): Grad.apply()\n"
    )
    assert set(targets(code)) == {"Attention"}
    assert set(targets(code + "def attention(q, k, v): return Grad.apply(q, k, v, v)\n")) == {
        "Grad", "Attention", "attention",
    }  # fmt: skip


def test_a_module_that_attends_in_a_method_of_its_own_is_a_target() -> None:
    code = (
        "class Layer(nn.Module):\n"
        "    def _mix(self, x):\n        q, k, v = self.qkv(x).chunk(3)\n        return (q @ k.mT).softmax(-1) @ v\n"
        "    def forward(self, x): return x + self._mix(x)\n"
        "class Recomputed(Layer):\n    def forward(self, x): return checkpoint(self._mix, x)\n"
        "class Plain(Layer):\n    def forward(self, x): return self.qkv(x)\n"
        "class Model(nn.Module):\n    def __init__(self): self.layer = Layer()\n"
        "    def forward(self, x): return self.layer(x)\n"
    )
    assert set(targets(code)) == {"Layer", "Recomputed", "Model"}


def test_attention_named_after_what_it_does_to_the_graph_is_a_target() -> None:
    code = (
        "def no_grad_attention(q, k, v, mask): return q\n"
        "def attention_in_grad_mode(q, k, v, scale=None): return q\n"
        "def attention_with_a_wrong_backward(q, k, v): return q\n"
        "def attention_backward(q, k, v, out): return q\n"
        "def attention_grad(q, k, v, g): return q\n"
    )
    assert set(targets(code)) == {"no_grad_attention", "attention_in_grad_mode", "attention_with_a_wrong_backward"}


def test_a_target_knows_what_it_reaches() -> None:
    code = (
        "def core(q, k, v): return F.scaled_dot_product_attention(q, k, v)\n"
        "class Attention(nn.Module):\n"
        "    def __init__(self): super().__init__()\n"
        "    def forward(self, x): return self.mix(x)\n"
        "    def mix(self, x): return core(x, x, x)\n"
        "def linear(q, k, v): return q @ (k @ v)\n"
    )
    found = {target.symbol: target for target in find_targets("file.py", HEAD + code)}
    assert found["Attention"].reaches == {
        "Attention", "Attention.__init__", "Attention.forward", "Attention.mix", "core",
    }  # fmt: skip
    assert found["linear"].reaches == {"linear"}


def test_of_two_definitions_of_a_name_the_last_is_the_target() -> None:
    code = "def attention(q, k, v): return q\ndef attention(q, k, v): return k\n"
    (target,) = find_targets("file.py", HEAD + code)
    assert target.line == 5


@pytest.mark.parametrize("naming", ["from torch.nn import MultiheadAttention as MHA", "MHA = nn.MultiheadAttention"])
def test_multi_head_attention_by_another_name(naming: str) -> None:
    code = f"{naming}\nclass Block(nn.Module):\n    def __init__(self): self.mix = MHA(4, 1)\n"
    code += "    def forward(self, x): return self.mix(x.detach(), x, x)\n"
    assert "Block.forward" in suspects(code)
