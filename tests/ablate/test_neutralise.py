"""Each rewrite, alone and nested, keeps the lines and does what it says."""

from __future__ import annotations

import ast
from itertools import combinations

import pytest

from theria_lint.ablate.rewriting import ablate_suspects
from theria_lint.rules.loader import Rule, load_rules
from theria_lint.rules.pages import load_examples
from theria_lint.static.scan import scan_source

RULES = load_rules()
NULL = '__import__("contextlib").nullcontext()'


def rewritten(body: str, imports: str = "import torch\nfrom torch.utils.checkpoint import checkpoint\n") -> str:
    """The body of an attention function, neutralised."""
    head = f"{imports}import torch.nn.functional as F\ndef attention(q, k, v):\n"
    source = head + "".join(f"    {line}\n" for line in body.splitlines())
    variant = ablate_suspects(source, scan_source("file.py", source, RULES))
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
        ("with torch.no_grad():\n    return q", "\nreturn q"),
        ("with torch.no_grad():  # why\n    return q", "# why\nreturn q"),
        ("with torch.no_grad():\n    torch.mm(q, k, out=v)", "\nv.copy_(torch.mm(q, k))"),
        ("with torch.no_grad():\n    x = f(q, out=v[0],\n        dim=1)", "\nx = (v[0].copy_(f(q, dim=1))\n)"),
        ("with torch.no_grad():\n    torch.max(q, 0, out=(k, v))", "\ntorch.max(q, 0, out=(k, v))"),
        ("with torch.no_grad():\n    f(q, out=None)\nf(q, out=v)", "\nf(q, out=None)\nf(q, out=v)"),
        ("with torch.no_grad(): return q", f"with {NULL}: return q"),
        ("with torch.no_grad():\n    x = q\n    # end\nreturn q", f"with {NULL}:\n    x = q\n    # end\nreturn q"),
        ("with torch.no_grad(), open('x'):\n    return q", "with open('x'):\n    return q"),
        ("with (\n    torch.no_grad()\n):\n    return q", f"with (\n    {NULL}\n):\n    return q"),
        (
            "if k:\n    with torch.no_grad():\n        # two\n        x = f(\n            q)\n        return x",
            "if k:\n\n    # two\n    x = f(\n        q)\n    return x",
        ),
        ("with torch.no_grad() as n, open('x'):\n    return q", f"with {NULL} as n, open('x'):\n    return q"),
        ("torch.set_grad_enabled(False)", NULL),
        ("with torch.set_grad_enabled(False):\n    return q.data", "\nreturn q"),
        ("return torch.no_grad()(torch.mm)(q, k)", "return torch.mm(q, k)"),
        ("return checkpoint(F.relu, q)", "return checkpoint(F.relu, q, use_reentrant=False)"),
        ("return checkpoint(F.relu, q, use_reentrant=True)", "return checkpoint(F.relu, q, use_reentrant=False)"),
        ("return torch.autograd.grad(q, k)", "return torch.autograd.grad(q, k, create_graph=True)"),
        ("return torch.autograd.grad(q, k, create_graph=False)", "return torch.autograd.grad(q, k, create_graph=True)"),
        ("return q @ v.state_dict()['w']", "return q @ v.state_dict(keep_vars=True)['w']"),
        ("return q + (k - q).detach()", "return q + (k - q)"),
        ("x = q.max().item()\nreturn q / x", "x = q.max()\nreturn q / x"),
        ("x = float(q.max())\nreturn q / x", "x = q.max()\nreturn q / x"),
        ("return torch.detach(q\n    .T)", "return (q\n    .T)"),
        (
            "q.register_hook(lambda g: g.detach())",
            "q.register_hook(lambda *_, **__: None)",
        ),
        (
            "torch.autograd.graph.register_multi_grad_hook((q, k), lambda g: g.neg_(), mode='any')",
            "torch.autograd.graph.register_multi_grad_hook((q, k), lambda *_, **__: None, mode='any')",
        ),
        ("@q.register_hook\ndef cut(g):\n    return -g", "\ndef cut(g):\n    return -g"),
        ("return torch.compile(F.softmax)(q)", "return F.softmax(q)"),
    ],
)
def test_a_rewrite(before: str, after: str) -> None:
    assert rewritten(before) == after


def test_the_lines_that_a_rewrite_drops_are_kept_empty() -> None:
    assert rewritten("x = (q\n    .detach(\n    )\n)\nreturn x").splitlines()[-1] == "return x"
    assert rewritten("x = torch.detach(\n    q\n)\nreturn x").splitlines()[-1] == "return x"


DECORATED = (
    "import torch\n\n\n@torch.no_grad()  # why\n@cache\n# because\n@torch.compile(\n    mode='x'\n)\n"
    "def attention(q, k, v):\n    return q\n"
)


def test_decorators_leave_empty_lines_and_their_comments() -> None:
    variant = ablate_suspects(DECORATED, scan_source("file.py", DECORATED, RULES))
    assert variant == ("import torch\n\n\n# why\n@cache\n# because\n\n\n\ndef attention(q, k, v):\n    return q\n")


def test_a_function_that_records_copies_what_it_wrote_elsewhere() -> None:
    source = "import torch\n\n\n@torch.no_grad()\ndef attention(q, k, v):\n    return torch.mm(q, k, out=v)\n"
    variant = ablate_suspects(source, scan_source("file.py", source, RULES))
    assert variant == "import torch\n\n\n\ndef attention(q, k, v):\n    return v.copy_(torch.mm(q, k))\n"


def test_a_tidy_rewrite_has_no_empty_lines() -> None:
    variant = ablate_suspects(DECORATED, scan_source("file.py", DECORATED, RULES), tidy=True)
    assert variant == "import torch\n\n\n# why\n@cache\n# because\ndef attention(q, k, v):\n    return q\n"


# Their tidy form imports at the top what the other imports on the spot.
IMPORTING = ("math-backend", "explicit-distance", "torch-function", "as-nested-tensor", "kept-loss")


def test_a_distance_is_written_out_as_an_author_would() -> None:
    source = "import torch\n\n\ndef attention(q, k, v):\n    return torch.cdist(q + 1, k).softmax(-1) @ v\n"
    variant = ablate_suspects(source, scan_source("file.py", source, RULES), tidy=True)
    written = "torch.linalg.vector_norm((q + 1).unsqueeze(-2) - k.unsqueeze(-3), dim=-1)"
    assert variant == source.replace("torch.cdist(q + 1, k)", written)


@pytest.mark.parametrize(
    ("imports", "call", "inline", "tidy"),
    [
        ("import math", "math.sqrt", 'getattr(__import__("torch"), (math.sqrt).__name__)', "torch.sqrt"),
        ("from math import exp", "exp", 'getattr(__import__("torch"), (exp).__name__)', "torch.exp"),
        (
            "from torch.nested import nested_tensor",
            "nested_tensor",
            '__import__("torch").nested.as_nested_tensor',
            "torch.nested.as_nested_tensor",
        ),
        (
            "from math import exp as e_to",
            "e_to",
            'getattr(__import__("torch"), (e_to).__name__)',
            'getattr(__import__("torch"), (e_to).__name__)',
        ),
    ],
)
def test_another_function_is_called(imports: str, call: str, inline: str, tidy: str) -> None:
    head = f"{imports}\nimport torch\n\n\ndef attention(q, k, v):\n"
    source = f"{head}    return {call}(q.mean()) * (q @ k.mT).softmax(-1) @ v\n"
    suspects = scan_source("file.py", source, RULES)
    assert ablate_suspects(source, suspects) == source.replace(f"{call}(q.", f"{inline}(q.")
    assert ablate_suspects(source, suspects, tidy=True) == source.replace(f"{call}(q.", f"{tidy}(q.")


@pytest.mark.parametrize("rule", RULES.rules, ids=lambda rule: rule.id)
def test_a_tidy_rewrite_is_the_same_program(rule: Rule) -> None:
    for example in load_examples(rule):
        for suspect in scan_source(str(example.path), example.source, RULES):
            if suspect.neutraliser not in (None, *IMPORTING):
                tidy = ablate_suspects(example.source, [suspect], tidy=True)
                assert ast.dump(ast.parse(tidy)) == ast.dump(ast.parse(ablate_suspects(example.source, [suspect])))


def test_a_tidy_rewrite_imports_what_it_needs_once() -> None:
    source = (
        '"""Text."""\n\nfrom __future__ import annotations\n\nimport torch.nn.functional as F\n\n\n'
        "def attention(q, k, v):\n    return F.scaled_dot_product_attention(q, k, v)\n"
    )
    variant = ablate_suspects(source, scan_source("file.py", source, RULES), tidy=True)
    needed = "from torch.nn.attention import SDPBackend, sdpa_kernel\n"
    assert variant == source.replace("import torch.nn", f"{needed}import torch.nn").replace(
        "F.scaled_dot_product_attention(", "sdpa_kernel(SDPBackend.MATH)(F.scaled_dot_product_attention)("
    )
    assert (
        ablate_suspects(needed + source, scan_source("file.py", needed + source, RULES), tidy=True).count(needed) == 1
    )


def test_any_subset_can_be_neutralised() -> None:
    source = (
        "import torch\n@torch.no_grad()\ndef attention(q, k, v):\n    with torch.no_grad(): x = q.detach().data\n"
        "    return torch.detach(x.detach() + k)\n"
    )
    suspects = scan_source("file.py", source, RULES)
    assert len(suspects) == 6
    for size in range(len(suspects) + 1):
        for chosen in combinations(suspects, size):
            variant = ablate_suspects(source, chosen)
            left = scan_source("file.py", variant, RULES)
            assert len(left) == len(suspects) - size
            ast.parse(ablate_suspects(source, chosen, tidy=True))
            assert [s.span.line for s in left] == [s.span.line for s in suspects if s not in chosen]


def test_what_is_not_chosen_stays_as_it_is_to_the_letter() -> None:
    source = "x = 1 ;y=2\n\n\nimport torch\ndef attention( q,k , v ):\n\treturn  q . detach ( ) # why\nz =[ 1,]\n"
    suspects = scan_source("file.py", source, RULES)
    assert ablate_suspects(source, ()) == source
    assert ablate_suspects(source, suspects) == source.replace(" . detach ( )", "")


def test_a_fused_call_runs_under_the_math_backend_and_has_a_second_derivative() -> None:
    torch = pytest.importorskip("torch")
    source = (
        "import torch.nn.functional as F\ndef attention(q, k, v):\n    return F.scaled_dot_product_attention(q, k, v)\n"
    )
    namespace: dict[str, object] = {}
    exec(ablate_suspects(source, scan_source("file.py", source, RULES)), namespace)
    q = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    attention = namespace["attention"]
    assert callable(attention)
    (gradient,) = torch.autograd.grad(attention(q, q, q).square().sum(), q, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), q)
    assert second.norm() > 0
