"""The prefilter loses nothing: on real packages it finds what looking at every file in whole finds."""

from __future__ import annotations

import importlib.util
import os
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import libcst as cst
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from libcst.metadata import MetadataWrapper, PositionProvider

from theria_lint.errors import SourceError
from theria_lint.rules.loader import load_rules
from theria_lint.sources.source_text import TENSOR_WORDS
from theria_lint.static import attention_names
from theria_lint.static.prefilter import may_hold_suspects
from theria_lint.static.scan import scan_source

RULES = load_rules()
# Of the files that say "attention", and of the others that speak of tensors.
SAMPLE = 100
ROOT = Path(__file__).resolve().parents[2]
# What benchmarks/static_speed.py has downloaded, when it has run; PyTorch's own sources otherwise.
CORPUS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "theria-lint-benchmark" / "corpus"


def python_files() -> list[Path]:
    if CORPUS.is_dir():
        return sorted(CORPUS.rglob("*.py"))
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        pytest.skip("neither the benchmark's corpus nor torch is here")
    return sorted(Path(spec.origin).parent.rglob("*.py"))


@cache
def sources() -> dict[Path, bytes]:
    """A sample of the corpus, and every kernel of this project."""
    data = {path: path.read_bytes() for path in python_files()}
    chosen = random.Random(0)
    named = [path for path, text in data.items() if b"ttention" in text]
    others = [path for path, text in data.items() if b"ttention" not in text and any(w in text for w in TENSOR_WORDS)]
    sample = [path for paths in (named, others) for path in chosen.sample(paths, min(SAMPLE, len(paths)))]
    ours = sorted(path for folder in ("rules", "examples") for path in (ROOT / folder).rglob("*.py"))
    return {path: data[path] for path in sample} | {path: path.read_bytes() for path in ours}


def test_the_prefilter_loses_nothing_on_a_sample_of_real_code() -> None:
    found = 0
    for path, data in sources().items():
        try:
            source = data.decode()
            whole = scan_source(str(path), source, RULES, prefilter=False)
        except (UnicodeDecodeError, SourceError):
            continue
        assert scan_source(str(path), source, RULES) == whole, path
        assert may_hold_suspects(data, RULES) or not whole, path
        found += len(whole)
    assert found >= 50


class Detached(cst.CSTVisitor):
    """Where functions of q, k and v call ``.detach()``, by a walk of libcst that shares nothing with the linter's."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.places: set[tuple[int, int]] = set()

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:  # noqa: N802
        every = (*node.params.posonly_params, *node.params.params, *node.params.kwonly_params)
        attention = attention_names.takes_qkv([parameter.name.value for parameter in every])
        self.depth += 1 if self.depth or (attention and not node.decorators) else 0

    def leave_FunctionDef(self, original_node: cst.FunctionDef) -> None:  # noqa: N802
        self.depth = max(0, self.depth - 1)

    def visit_Call(self, node: cst.Call) -> None:  # noqa: N802
        if self.depth and isinstance(node.func, cst.Attribute) and node.func.attr.value == "detach" and not node.args:
            start = self.get_metadata(PositionProvider, node.func.attr).start
            self.places.add((start.line, start.column + 1))


def of_libcst(source: str) -> set[tuple[int, int]]:
    visitor = Detached()
    MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True).visit(visitor)
    return visitor.places


# Of the sample, files that libcst reads in seconds.
LARGEST = 30_000


def detached() -> Iterator[tuple[Path, str, set[tuple[int, int]]]]:
    for path, data in sources().items():
        if b".detach()" in data and re.search(rb"def \w+\([^)]*\bq", data) and len(data) <= LARGEST:
            source = data.decode()
            yield path, source, of_libcst(source)


def test_a_pass_of_libcst_finds_no_detached_tensor_that_the_linter_does_not() -> None:
    """Except where only the shape of what is detached is used, which no gradient flows through."""
    count = 0
    for path, source, places in detached():
        lines = source.splitlines()
        spans = [suspect.span for suspect in scan_source(str(path), source, RULES)]
        for line, column in places:
            found = any((s.line, s.column) <= (line, column) < (s.end_line, s.end_column) for s in spans)
            assert found or lines[line - 1].startswith("detach().shape", column - 1), (path, line)
        count += len(places)
    assert count >= 10


# Parts of modules, for every way from attention code to a trigger that the prefilter has to follow: calls by name, by
# another name, by an attribute, through a base class, through `__call__`, a hook, a wrapper, a registered backward, or
# through attention of another file.
NAMES = st.sampled_from(["attention", "helper", "project", "Base", "Layer", "Fused", "scale", "inner_loop", "cached"])
PARAMETERS = st.sampled_from(
    [
        *("q, k, v", "x", "self, q, k, v", "ctx, grad", "ctx, q, k, v", "self, hidden_states", "", "*a"),
        *("self, x, scale=SelfAttention", "self, x, scale: ops.SelfAttention"),
    ]
)
STATEMENTS = st.one_of(
    st.sampled_from(
        [
            "pass",
            "w = torch.softmax(q @ k.transpose(-1, -2), -1)",
            "w = F.softmax(x @ x, dim=-1) @ x",
            "x = x.detach()",
            "return (q @ k).detach() @ v",
            "x = x.data",
            "x.requires_grad_(False)",
            "ctx.save_for_backward(q, k, v)",
            "q, k, v = ctx.saved_tensors",
            "with torch.no_grad():\n        x = 1",
            "with quiet():\n        x = 1",
            "g = torch.autograd.grad(x, q)",
            "g = torch.autograd.grad(x, q, create_graph=False)",
            "q.register_hook(lambda grad: grad * 0)",
            "return checkpoint(helper, q, use_reentrant=True)",
            "return F.scaled_dot_product_attention(q, k, v)",
            "return torch.tensor(x)",
            "return float(x)",
            "return x.item()",
            "return q + (r - q).detach()",
            "kernel[grid](q, k, v)",
            "self.scale = SelfAttention(8)",
            "self.scale = scale",
            "self.scale.append(SelfAttention(8))",
            "self.scale.append(scale)",
            "register_parametrization(self.scale, 'weight', SelfAttention(8))",
            "return super().forward(x.detach())",
            "return SelfAttention.apply(x.detach())",
            "return checkpoint(ops.fused_attention, x.detach())",
            "def inner(y):\n        return self.scale(y.detach())",
        ]
    ),
    st.builds("return {}(q, k, v)".format, NAMES),
    st.builds("x = self.{}(x)".format, NAMES),
    st.builds("return {}.apply(q, k, v)".format, NAMES),
    st.builds("{0} = {1}".format, NAMES, NAMES),
)
DECORATORS = st.sampled_from(
    ["", "", "@torch.no_grad()\n", "@once_differentiable\n", "@torch.compile\n", "@staticmethod\n"]
)
METHODS = st.sampled_from(["forward", "backward", "__call__", "__init__", "setup_context"]) | NAMES
BASES = st.sampled_from(["", "(nn.Module)", "(torch.autograd.Function)", "(SelfAttention)"]) | st.builds(
    "({})".format, NAMES
)
IMPORTS = [
    "import torch",
    "import torch.nn as nn",
    "import torch.nn.functional as F",
    "from torch.utils.checkpoint import checkpoint",
    "from torch import compile, no_grad as quiet",
    "from torch.autograd.function import once_differentiable",
    "from .ops import SelfAttention",
    "from . import ops",
]


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


@st.composite
def functions(draw: st.DrawFn, names: st.SearchStrategy[str] = NAMES) -> str:
    body = "\n".join(draw(st.lists(STATEMENTS, min_size=1, max_size=4)))
    return f"{draw(DECORATORS)}def {draw(names)}({draw(PARAMETERS)}):\n{indented(body)}"


@st.composite
def classes(draw: st.DrawFn) -> str:
    methods = "\n".join(draw(st.lists(functions(METHODS), min_size=1, max_size=3)))
    return f"class {draw(NAMES)}{draw(BASES)}:\n{indented(methods)}"


ASSIGNMENTS = st.one_of(
    st.builds("{0} = {1}\n".format, NAMES, NAMES),
    st.builds("{0} = torch.compile({1})\n".format, NAMES, NAMES),
    st.builds("{0}.register_autograd({1})\n".format, NAMES, NAMES),
    st.builds("{0} = {1}()\n".format, NAMES, NAMES),
)


@st.composite
def modules(draw: st.DrawFn) -> str:
    imports = draw(st.lists(st.sampled_from(IMPORTS), unique=True, max_size=6))
    parts = draw(st.lists(functions() | classes() | ASSIGNMENTS, min_size=1, max_size=6))
    return "\n".join([*imports, *parts])


def finds_what_the_tree_holds(source: str) -> int:
    whole = scan_source("file.py", source, RULES, prefilter=False)
    assert scan_source("file.py", source, RULES) == whole
    assert may_hold_suspects(source.encode(), RULES) or not whole
    return len(whole)


NESTED = """import torch
from .ops import SelfAttention


class Thing:
    def {method}(self, x):
        self.scale = SelfAttention(8)

        def inner(y):
            return self.scale(y.detach())
"""


@pytest.mark.parametrize("method", ["helper", "__init__"])
def test_what_is_defined_in_a_method_may_run_what_the_instance_holds(method: str) -> None:
    assert finds_what_the_tree_holds(NESTED.format(method=method)) == 1


@given(modules())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_prefilter_loses_nothing_of_any_module(source: str) -> None:
    finds_what_the_tree_holds(source)


def test_the_modules_that_are_made_up_hold_suspects() -> None:
    find(modules(), lambda source: finds_what_the_tree_holds(source) >= 3)
