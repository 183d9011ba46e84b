"""A name is followed through imports, alternatives, assignments and scopes."""

from __future__ import annotations

import pytest

from theria_lint.rules.loader import load_rules
from theria_lint.static.scan import scan_source

RULES = load_rules(extra_detach_names=["mypkg.stop_grad"])


def found(source: str, *, prefilter: bool = True) -> list[tuple[int, str]]:
    suspects = scan_source("file.py", source, RULES, prefilter=prefilter)
    assert suspects == scan_source("file.py", source, RULES, prefilter=not prefilter)
    return [(suspect.span.line, suspect.rule) for suspect in suspects]


def kernel(imports: str, context: str) -> str:
    lines = imports.count("\n") + 1
    assert lines == 1, "the expectations below count on one line"
    return f"{imports}\ndef attention(q, k, v):\n    with {context}:\n        return q @ k @ v\n"


@pytest.mark.parametrize(
    ("imports", "context"),
    [
        ("import torch", "torch.no_grad()"),
        ("import torch as t", "t.no_grad()"),
        ("from torch import no_grad", "no_grad()"),
        ("from torch import no_grad as quiet", "quiet()"),
        ("from torch import *", "no_grad()"),
        ("import torch.autograd as ag", "ag.no_grad()"),
        ("from torch.autograd import grad_mode as gm", "gm.no_grad()"),
        ("import torch; quiet = torch.no_grad", "quiet()"),
        ("import torch; T = torch; quiet = T.no_grad", "quiet()"),
        ("import torch", "open('x'), torch.no_grad()"),
        ("import torch", "torch.no_grad() as nothing"),
        ("import torch", "torch.inference_mode(mode=True)"),
        ("import torch", "torch.set_grad_enabled(mode=False)"),
    ],
)
def test_a_switch_is_found_by_any_name(imports: str, context: str) -> None:
    assert found(kernel(imports, context)) == [(3, "THL001")]


@pytest.mark.parametrize(
    ("imports", "context"),
    [
        ("import torch", "no_grad()"),
        ("import torch; from mylib import no_grad", "no_grad()"),
        ("import torch, jax as torch", "jax.no_grad()"),
        ("import torch", "torch.set_grad_enabled(True)"),
        ("import torch", "torch.set_grad_enabled(torch.is_grad_enabled())"),
        ("import torch", "torch.inference_mode(False)"),
        ("import torch", "torch.autocast('cpu')"),
        ("import torch", "self.no_grad()"),
    ],
)
def test_another_thing_of_the_name_is_not(imports: str, context: str) -> None:
    assert found(kernel(imports, context)) == []


def test_a_parameter_hides_an_import() -> None:
    assert found("from torch import no_grad\ndef attention(q, k, v, no_grad):\n    with no_grad(): return q\n") == []


def test_an_import_inside_a_function_counts_there_only() -> None:
    source = (
        "import torch\n"
        "def attention(q, k, v):\n    from torch import no_grad as n\n    with n(): return q\n"
        "def other_attention(q, k, v):\n    with n(): return q\n"
    )
    assert found(source) == [(4, "THL001")]


def test_alternatives_that_disagree_are_ambiguous_and_the_message_is_always_the_same() -> None:
    source = (
        "try:\n    from torch import no_grad\nexcept ImportError:\n    from mylib import no_grad\n"
        "def attention(q, k, v):\n    with no_grad(): return q\n"
    )
    messages = {suspect.message for suspect in scan_source("file.py", source, RULES)}
    assert len(messages) == 1
    assert messages.pop().endswith("(ambiguous)")


def test_alternatives_that_agree_are_not_ambiguous() -> None:
    source = (
        "try:\n    from torch import no_grad\nexcept ImportError:\n    from torch.autograd import no_grad\n"
        "def attention(q, k, v):\n    with no_grad(): return q\n"
    )
    (suspect,) = scan_source("file.py", source, RULES)
    assert "(ambiguous" not in suspect.message


@pytest.mark.parametrize("use", ["from mypkg import stop_grad as s", "import mypkg; s = mypkg.stop_grad"])
def test_names_of_the_settings_cut_the_graph_even_where_torch_is_not_named(use: str) -> None:
    assert found(f"{use}\ndef attention(q, k, v):\n    return s(q) @ k @ v\n") == [(3, "THL002")]


def test_a_decorator_is_found_with_and_without_a_call_and_reaches_the_body() -> None:
    source = (
        "import torch\n@torch.no_grad\ndef attention(q, k, v):\n    '''Text.'''\n    x = q\n    return x\n"
        "@torch.inference_mode()\ndef attention2(q, k, v):\n    return q\n"
    )
    first, second = scan_source("file.py", source, RULES)
    assert (first.span.line, first.reach, first.symbol) == (2, (5, 6), "attention")
    assert (second.span.line, second.reach, second.symbol) == (7, (9, 9), "attention2")


def test_a_function_wrapped_by_a_call_is_found() -> None:
    assert found("import torch\ndef attention(q, k, v):\n    return torch.no_grad()(torch.mm)(q, k)\n") == [
        (3, "THL001")
    ]
