"""Each rewrite, alone and nested, keeps the lines and does what it says."""

from __future__ import annotations

import ast
from itertools import combinations

import pytest

from theria_lint.static import load_rules, neutralise, scan

RULES = load_rules()
NULL = '__import__("contextlib").nullcontext()'
IDENTITY = "(lambda theria_f: theria_f)"


def rewritten(body: str, imports: str = "import torch\nfrom torch.utils.checkpoint import checkpoint\n") -> str:
    """The body of an attention function, neutralised."""
    head = f"{imports}import torch.nn.functional as F\ndef attention(q, k, v):\n"
    source = head + "".join(f"    {line}\n" for line in body.splitlines())
    variant = neutralise(source, scan("file.py", source, RULES))
    ast.parse(variant)
    assert variant.startswith(head)
    assert len(variant.splitlines()) == len(source.splitlines())
    return "\n".join(line.removeprefix("    ") for line in variant.splitlines()[head.count("\n") :])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return q.detach()", "return q"),
        ("return q.data", "return q"),
        ("return q.detach().data", "return q"),
        ("return torch.detach(q)", "return q"),
        ("return torch.detach(q + k) * v", "return (q + k) * v"),
        ("return (q + k).detach() * v", "return (q + k) * v"),
        ("return torch.detach(q.detach()).data", "return q"),
        ("q.detach_()", "q"),
        ("q.data = k", "q = k"),
        ("q.data.mul_(2)", "q.mul_(2)"),
        ("with torch.no_grad():\n    return q", f"with {NULL}:\n    return q"),
        ("with torch.no_grad() as n, open('x'):\n    return q", f"with {NULL} as n, open('x'):\n    return q"),
        ("torch.set_grad_enabled(False)", NULL),
        ("with torch.set_grad_enabled(False):\n    return q.data", f"with {NULL}:\n    return q"),
        ("return torch.no_grad()(torch.mm)(q, k)", "return torch.mm(q, k)"),
        ("return checkpoint(F.relu, q)", "return checkpoint(F.relu, q, use_reentrant=False)"),
        ("return checkpoint(F.relu, q, use_reentrant=True)", "return checkpoint(F.relu, q, use_reentrant=False)"),
        ("return torch.autograd.grad(q, k)", "return torch.autograd.grad(q, k, create_graph=True)"),
        ("return torch.autograd.grad(q, k, create_graph=False)", "return torch.autograd.grad(q, k, create_graph=True)"),
        ("return q + (k - q).detach()", "return q + (k - q)"),
        ("x = q.max().item()\nreturn q / x", "x = q.max()\nreturn q / x"),
        ("x = float(q.max())\nreturn q / x", "x = q.max()\nreturn q / x"),
        (
            "q.register_hook(lambda g: g.detach())",
            "q.register_hook((lambda *theria_a, **theria_k: None))",
        ),
        ("return torch.compile(F.softmax)(q)", "return F.softmax(q)"),
    ],
)
def test_a_rewrite(before: str, after: str) -> None:
    assert rewritten(before) == after


def test_the_lines_that_a_rewrite_drops_are_kept_empty() -> None:
    assert rewritten("x = (q\n    .detach(\n    )\n)\nreturn x").splitlines()[-1] == "return x"
    assert rewritten("x = torch.detach(\n    q\n)\nreturn x").splitlines()[-1] == "return x"


def test_decorators_become_the_identity_on_their_line() -> None:
    source = "import torch\n@torch.no_grad()\n@torch.compile(\n    mode='x'\n)\ndef attention(q, k, v):\n    return q\n"
    variant = neutralise(source, scan("file.py", source, RULES)).splitlines()
    assert variant[1] == f"@{IDENTITY}"
    assert variant[2] == f"@({IDENTITY}"
    assert variant[5:] == ["def attention(q, k, v):", "    return q"]


def test_any_subset_can_be_neutralised() -> None:
    source = (
        "import torch\n@torch.no_grad()\ndef attention(q, k, v):\n    with torch.no_grad(): x = q.detach().data\n"
        "    return torch.detach(x.detach() + k)\n"
    )
    suspects = scan("file.py", source, RULES)
    assert len(suspects) == 6
    for size in range(len(suspects) + 1):
        for chosen in combinations(suspects, size):
            variant = neutralise(source, chosen)
            left = scan("file.py", variant, RULES)
            assert len(left) == len(suspects) - size
            assert [s.span.line for s in left] == [s.span.line for s in suspects if s not in chosen]


def test_what_is_not_chosen_stays_as_it_is_to_the_letter() -> None:
    source = "x = 1 ;y=2\n\n\nimport torch\ndef attention( q,k , v ):\n\treturn  q . detach ( ) # why\nz =[ 1,]\n"
    suspects = scan("file.py", source, RULES)
    assert neutralise(source, ()) == source
    assert neutralise(source, suspects) == source.replace(" . detach ( )", "")


def test_a_fused_call_runs_under_the_math_backend_and_has_a_second_derivative() -> None:
    torch = pytest.importorskip("torch")
    source = (
        "import torch.nn.functional as F\ndef attention(q, k, v):\n    return F.scaled_dot_product_attention(q, k, v)\n"
    )
    namespace: dict[str, object] = {}
    exec(neutralise(source, scan("file.py", source, RULES)), namespace)
    q = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    attention = namespace["attention"]
    assert callable(attention)
    (gradient,) = torch.autograd.grad(attention(q, q, q).square().sum(), q, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), q)
    assert second.norm() > 0
