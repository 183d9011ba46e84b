# ruff: noqa: E501  (shapes read best one a line)
"""The shapes of `static_growth`: files made of N parts alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

HEAD = """\
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint


def attention(q, k, v):
    p = torch.softmax(q @ k.transpose(-1, -2), -1)
    return (p @ v).detach()


"""
# ``{i}`` is the number of the part, ``{j}`` that of the next one, ``{h}`` that of the one before.
STATEMENTS = {
    "detach": "x{i} = q.detach() @ k",
    "data": "x{i} = q.data + k",
    "item": "x{i} = q.item()",
    "numpy": "x{i} = q.cpu().numpy()",
    "no grad": "with torch.no_grad(): x{i} = q @ k",
    "several contexts": "with torch.no_grad(), torch.enable_grad(): x{i} = q @ k",
    "chained calls": "x{i} = q.detach().float().detach().to(k)",
    "chain of names": "x{i} = x{h}.detach()",
    "one name again": "q = q.detach() @ k",
    "two names": "q, k = k.detach(), q",
    "starred": "a, *b = q.detach(), k, v",
    "tuple": "x{i} = (q.detach(), [k.data, {{v: v}}])",
    "augmented": "q += k.detach()",
    "annotated": "x{i}: torch.Tensor = q.detach()",
    "walrus": "if (y{i} := q.detach()) is not None: pass",
    "subscript": "x{i} = q[k.detach()][..., {i}:]",
    "set subscript": "q[k.detach()] = v",
    "set attribute": "q.a{i} = k.detach()",
    "attribute": "x{i} = q.a{i}.b.c.d(k.detach())",
    "condition": "if q is None: x{i} = k.detach()",
    "choice": "x{i} = q.detach() if k else v.detach()",
    "boolean": "x{i} = q and k.detach() or v",
    "comparison": "x{i} = q.detach() < k < v",
    "loop": "for t in (q, k, v): x{i} = t.detach()",
    "while": "while q: q = q.detach()",
    "try": "try: x{i} = q.detach()\n{s}except E{i} as error: x{i} = k\n{s}finally: pass",
    "match": "match q:\n{s}    case [a, *b]: x{i} = a.detach()\n{s}    case _: pass",
    "comprehension": "x{i} = [t.detach() for t in q for u in t if u]",
    "generator": "x{i} = sum(t.detach() for t in q)",
    "dictionary": "x{i} = {{t: t.detach() for t in q}}",
    "lambda": "f{i} = lambda t: t.detach() @ k",
    "lambda of attention": "f{i} = lambda q, k, v: torch.softmax(q @ k, -1).detach() @ v",
    "closure": "def f{i}(t): return t.detach() @ x{h}",
    "closure of attention": "def f{i}(q, k, v): return torch.softmax(q @ k, -1).detach() @ v",
    "nested class": "class C{i}:\n{s}    def forward(self, q, k, v): return q.detach() @ k",
    "decorated": "@torch.no_grad()\n{s}def f{i}(t): return t @ k",
    "async": "async def f{i}(t):\n{s}    async with t: await t.detach()",
    "yield": "def f{i}(t):\n{s}    yield t.detach()",
    "global": "global g{i}; g{i} = q.detach()",
    "delete": "x{i} = q.detach(); del x{i}",
    "assert": "assert q.detach() is not None, 'x{i}'",
    "raise": "if q is None: raise E(k.detach())",
    "return": "if q is None: return k.detach()",
    "import": "import torch as t{i}; x{i} = t{i}.no_grad()",
    "import from": "from torch import no_grad as n{i}; x{i} = n{i}()",
    "rename": "n{i} = torch.no_grad; x{i} = n{i}()",
    "rename of a rename": "n{j} = n{i}; x{i} = n{i}()",
    "string": "x{i} = 'torch.no_grad() q.detach() softmax'",
    "long string": "x{i} = '''\nq.detach()\n# theria: ignore\n'''",
    "format string": "x{i} = f'{{q.detach()}} {{k!r:>{{v}}}}'",
    "comment": "x{i} = q.detach()  # softmax(q @ k) @ v .detach()",
    "ignored": "x{i} = q.detach()  # theria: ignore[THL002] x",
    "ignored above": "# theria: ignore\n{s}x{i} = q.detach()",
    "ignored in vain": "x{i} = q + k  # theria: ignore[THL002, THL001, THL900]",
    "hook": "q.register_hook(lambda g: g.detach())",
    "named hook": "q.register_hook(f{i})",
    "checkpoint": "x{i} = checkpoint(attention, q, k, v, use_reentrant=True)",
    "checkpoint of a name": "x{i} = checkpoint(f{i}, q, k, v, use_reentrant=True)",
    "fused": "x{i} = F.scaled_dot_product_attention(q, k, v)",
    "compile": "x{i} = torch.compile(attention)(q, k, v)",
    "inner gradient": "g{i} = torch.autograd.grad(q.sum(), k, create_graph=False)",
    "attention of attention": "q = torch.softmax(q @ k.transpose(-1, -2), -1) @ v",
    "call of attention": "q = attention(q, attention(k, q, v), v)",
    "straight through": "x{i} = q + (k - q).detach()",
    "long name": "x{i}{x} = q.detach()",
    "long line": "x{i} = foo(q.detach(), k, v, (1, 2, 3), a=4, b=5, c=6, d=7)  # {x}",
    "partial": "f{i} = functools.partial(attention, k=k.detach())",
    "self call": "x{i} = self.m{i}(q.detach())",
    "self attribute": "self.a{i} = q.detach() @ self.a{h}",
    "super": "x{i} = super().forward(q.detach())",
    "einsum": "x{i} = torch.einsum('bhqd,bhkd->bhqk', q.detach(), k)",
}
IN_LINE = {
    "arguments": ("f(", "q.detach(), ", ")"),
    "sum": ("", "q.detach() + ", "k"),
    "products": ("", "q.detach() @ ", "k"),
    "matmul of softmax": ("", "torch.softmax(q @ k, -1) @ ", "v"),
    "comparisons": ("", "q.detach() < ", "k"),
    "or": ("", "q.detach() or ", "k"),
    "list": ("[", "q.detach(), ", "]"),
    "dictionary": ("{", "'x': q.detach(), ", "}"),
    "joined strings": ("(", "f'{q.detach()}' ", ")"),
    "keywords": ("f(", "**q.detach(), ", ")"),
    "generators": ("f(", "[t.detach() for t in q], ", ")"),
    "lambdas": ("(", "(lambda t: t.detach()), ", ")"),
    "choices": ("(", "q.detach() if k else v, ", ")"),
    "blanks": ("f(", "          ", ")"),
    "numbers": ("[", "1, ", "]"),
    "lines in brackets": ("[", "q.detach(),\n", "]"),
    "wide characters": ("[", "'漢', q.detach(), ", "]"),
    "hidden characters": ("[", "'\\x1b', q.detach(), ", "]"),
}
Shape = Callable[[int], str]


def _fill(form: str, indent: str, part: int) -> str:
    return indent + form.format(i=part, j=part + 1, h=part - 1, s=indent, x="long" * 12) + "\n"


def in_one_function(form: str, count: int) -> str:
    """All parts in one attention function."""
    body = "".join(_fill(form, "    ", part) for part in range(count))
    return f"{HEAD}def attention_2(q, k, v):\n{body}    return torch.softmax(q @ k, -1) @ v\n"


def in_functions(form: str, count: int) -> str:
    """One attention function for each part, each calling the next."""
    return HEAD + "".join(
        f"def attention_{part}(q, k, v):\n{_fill(form, '    ', part)}    return attention_{part + 1}(q, k, v)\n\n\n"
        for part in range(count)
    )


def in_helpers(form: str, count: int) -> str:
    """One function for each part, that one attention function calls."""
    helpers = "".join(
        f"def f{part}(q, k, v):\n{_fill(form, '    ', part)}    return q @ k\n\n\n" for part in range(count)
    )
    calls = "".join(f"    q = f{part}(q, k, v)\n" for part in range(count))
    return f"{HEAD}{helpers}def attention_2(q, k, v):\n{calls}    return torch.softmax(q @ k, -1) @ v\n"


def in_methods(form: str, count: int) -> str:
    """One method of an attention class for each part, each calling the next."""
    methods = "".join(
        f"    def m{part}(self, q, k, v):\n{_fill(form, ' ' * 8, part)}        return self.m{part + 1}(q, k, v)\n\n"
        for part in range(count)
    )
    forward = "    def forward(self, q, k, v):\n        return torch.softmax(self.m0(q, k, v) @ k, -1) @ v\n\n"
    return f"{HEAD}class Attention(torch.nn.Module):\n{forward}{methods}"


def in_classes(form: str, count: int) -> str:
    """One attention module for each part, each using the next."""
    return HEAD + "".join(
        f"class Attention{part}(torch.nn.Module):\n    def __init__(self):\n        self.inner = Attention{part + 1}()\n\n"
        f"    def forward(self, q, k, v):\n{_fill(form, ' ' * 8, part)}        return self.inner(q, k, v)\n\n\n"
        for part in range(count)
    )


def in_autograd_functions(form: str, count: int) -> str:
    """One autograd Function for each part, with the part in its backward."""
    return HEAD + "".join(
        f"class Attention{part}(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, q, k, v):\n"
        f"        p = torch.softmax(q @ k, -1)\n        ctx.save_for_backward(q, k, v, p)\n        return p @ v\n\n"
        f"    @staticmethod\n    def backward(ctx, g):\n        q, k, v, p = ctx.saved_tensors\n"
        f"{_fill(form, ' ' * 8, part)}        return g @ p, h{part}(g), None\n\n\ndef h{part}(g):\n    return g.detach()\n\n\n"
        for part in range(count)
    )


def in_module(form: str, count: int) -> str:
    """All parts at the level of the module, behind code that holds a suspect."""
    return HEAD + "".join(_fill(form, "", part) for part in range(count) if "return" not in form or part < 0)


def in_line(begin: str, form: str, end: str, count: int) -> str:
    """All parts in one expression of an attention function."""
    return f"{HEAD}def attention_2(q, k, v):\n    x = ({begin}{form * count}{end})\n    return torch.softmax(q @ k, -1) @ x\n"


def _each(form: str, count: int, end: str = "") -> str:
    return HEAD + "".join(_fill(form, "", part) for part in range(count)) + end.format(n=count)


def _root(count: int) -> int:
    return max(2, math.isqrt(count))


def complete_graph(count: int) -> str:
    """As many calls as parts, between all of a few functions."""
    root = _root(count)
    calls = "".join(f"    x = f{part}(x)\n" for part in range(root))
    return HEAD + "".join(f"def f{part}(x):\n    x = x.detach()\n{calls}    return x\n\n" for part in range(root))


def heirs_of_one(count: int) -> str:
    """Classes that inherit from one."""
    return _each(
        "class C{i}(Base):\n    def forward(self, q, k, v):\n        return self.run(q.detach(), k) @ v\n", count
    ) + ("class Base(torch.nn.Module):\n    def run(self, q, k):\n        return torch.softmax(q @ k, -1)\n")


def families(count: int) -> str:
    """Chains of thirty classes each, whose methods call one another."""
    rows = []
    for part in range(count):
        base = f"C{part - 1}" if part % 30 else "torch.nn.Module"
        rows.append(
            f"class C{part}({base}):\n    def forward(self, q, k, v):\n        return super().forward(q.detach(), k, v)\n"
        )
    return HEAD + "".join(rows)


def many_bases(count: int) -> str:
    """A class of many bases."""
    count = min(count, 150)
    bases = ", ".join(f"C{part}" for part in range(count))
    classes = "".join(
        f"class C{part}(torch.nn.Module):\n    def m(self, q, k, v): return q.detach()\n" for part in range(count)
    )
    return f"{HEAD}{classes}class D({bases}):\n    def forward(self, q, k, v):\n        return self.m(q, k, v)\n"


def deep_attributes(count: int) -> str:
    """Long chains of attributes, as deep as Python parses."""
    chain = ".a" * 80
    return _each(f"def attention_{{i}}(q, k, v):\n    return q{chain}.detach(){chain}\n", count // 20 + 1)


def nested_blocks(count: int) -> str:
    """Blocks in blocks, as deep as Python parses, again and again."""
    block = "".join("    " * depth + "if q:\n" for depth in range(1, 18)) + "    " * 18 + "q = q.detach()\n"
    return _each(f"def attention_{{i}}(q, k, v):\n{block}", count // 10 + 1)


def nested_functions(count: int) -> str:
    """Functions in functions, as deep as Python parses, again and again."""
    block = "".join("    " * depth + f"def attention_{depth}(q, k, v):\n" for depth in range(1, 18))
    return _each(f"def attention_{{i}}(q, k, v):\n{block}{'    ' * 18}return q.detach()\n", count // 10 + 1)


def nested_calls(count: int) -> str:
    """Calls in calls, as deep as Python parses, again and again."""
    return _each(f"def attention_{{i}}(q, k, v):\n    return {'f(' * 60}q.detach(){')' * 60}\n", count // 20 + 1)


def in_long_parts(where: Callable[[str, int], str], count: int) -> str:
    """As few parts as each is long, which grow together: what is done with each part for each of them shows."""
    root = _root(20 * count)
    lines = "".join(f"{{s}}x{line}_{{i}} = TABLE_{line} + q.detach() @ k\n" for line in range(root))
    tables = "".join(f"TABLE_{line} = TABLE_{line + 1}\n" for line in range(root))
    return where(lines.removeprefix("{s}").removesuffix("\n"), root) + tables


SPECIAL: dict[str, Shape] = {
    "chain down": lambda n: _each(
        "def f{i}(x):\n    return f{j}(x).detach()\n", n, "def f{n}(x):\n    return attention(x, x, x)\n"
    ),
    "chain up": lambda n: _each(
        "def f{j}(x):\n    return f{i}(x).detach()\n", n, "def attention_2(q, k, v):\n    return f{n}(q)\n"
    ),
    "all call one": lambda n: _each(
        "def f{i}(x):\n    return helper(x).detach()\n", n, "def helper(x):\n    return x.detach()\n"
    ),
    "all call attention": lambda n: _each("def f{i}(x):\n    return attention(x, x, x).detach()\n", n),
    "complete graph": complete_graph,
    "weights and users": lambda n: _each(
        "def w{i}(q, k):\n    return torch.softmax(q @ k, -1)\ndef u{i}(q, k, v):\n    return w{i}(q, k).detach() @ v\n",
        n,
    ),
    "one function many weights": lambda n: (
        _each("def w{i}(q, k):\n    return torch.softmax(q @ k, -1)\n", n)
        + "def u(q, k, v):\n"
        + "".join(f"    q = w{i}(q, k) @ v\n" for i in range(n))
        + "    return q.detach()\n"
    ),
    "heirs of one": heirs_of_one,
    "families": families,
    "many bases": many_bases,
    "members": lambda n: (
        HEAD
        + "class Attention(torch.nn.Module):\n    def __init__(self):\n"
        + "".join(f"        self.m{i} = Part{i}()\n" for i in range(n))
        + "    def forward(self, q, k, v):\n"
        + "".join(f"        q = self.m{i}(q.detach())\n" for i in range(n))
        + "        return torch.softmax(q @ k, -1) @ v\n"
        + "".join(
            f"class Part{i}(torch.nn.Module):\n    def forward(self, x):\n        return x.detach()\n" for i in range(n)
        )
    ),
    "same functions": lambda n: _each(
        "def f(x):\n    return x.detach()\n", n, "def attention_2(q, k, v):\n    return f(q)\n"
    ),
    "same attention": lambda n: _each("def attention(q, k, v):\n    return torch.softmax(q @ k, -1).detach() @ v\n", n),
    "same methods": lambda n: (
        HEAD
        + "class Attention(torch.nn.Module):\n"
        + "    def forward(self, q, k, v):\n        return q.detach()\n" * n
    ),
    "same classes": lambda n: _each(
        "class Attention(torch.nn.Module):\n    def forward(self, q, k, v):\n        return q.detach()\n", n
    ),
    "method in many classes": lambda n: _each(
        "class C{i}:\n    def run(self, q, k, v):\n        return self.run(q.detach(), k, v)\n", n
    ),
    "unused imports": lambda n: (
        "".join(f"from torch import no_grad as a{i}\n" for i in range(n)) + HEAD + "with a1():\n    pass\n"
    ),
    "one import": lambda n: (
        "from torch import (\n"
        + "".join(f"    no_grad as a{i},\n" for i in range(n))
        + ")\n"
        + HEAD
        + "def attention_2(q, k, v):\n"
        + "".join(f"    with a{i}(): q = q @ k\n" for i in range(n))
        + "    return q\n"
    ),
    "aliases": lambda n: (
        HEAD
        + "from torch import no_grad as a0\n"
        + "".join(f"a{i + 1} = a{i}\n" for i in range(n))
        + f"def attention_2(q, k, v):\n    with a{n}():\n        return torch.softmax(q @ k, -1) @ v\n"
    ),
    "aliases backwards": lambda n: (
        HEAD
        + "".join(f"a{i} = a{i + 1}\n" for i in range(n))
        + f"a{n} = torch.no_grad\n"
        + "def attention_2(q, k, v):\n"
        + "".join(f"    with a{i}(): q = q @ k\n" for i in range(n))
        + "    return q\n"
    ),
    "one alias many values": lambda n: (
        HEAD
        + "".join(f"f = torch.f{i}\n" for i in range(n))
        + "def attention_2(q, k, v):\n"
        + "    q = f(q.detach())\n" * n
        + "    return q\n"
    ),
    "stars": lambda n: (
        "".join(f"from a{i} import *\n" for i in range(n))
        + HEAD
        + "def attention_2(q, k, v):\n"
        + "    q = f(q.detach())\n" * n
        + "    return q\n"
    ),
    "tries of imports": lambda n: (
        "".join(f"try:\n    from a{i} import f\nexcept ImportError:\n    f = None\n" for i in range(n))
        + HEAD
        + "def attention_2(q, k, v):\n"
        + "    q = f(q.detach())\n" * n
        + "    return q\n"
    ),
    "renamed operations": lambda n: (
        HEAD
        + "from torch.nn.functional import scaled_dot_product_attention as s0\n"
        + "".join(f"s{i + 1} = s{i}\n" for i in reversed(range(n)))
        + f"def f(a, b, c):\n    return s{n}(a.detach(), b, c)\n"
    ),
    "decorators": lambda n: (
        HEAD + "@foo(q.detach())\n" * n + "def attention_2(q, k, v):\n    return torch.softmax(q @ k, -1) @ v\n"
    ),
    "parameters": lambda n: (
        HEAD + "def attention_2(q, k, v, " + ", ".join(f"a{i}=q.detach()" for i in range(n)) + "):\n    return q @ k\n"
    ),
    "elifs": lambda n: (
        HEAD + ("def attention_{}(q, k, v):\n    if q: pass\n" + "    elif k: q = q.detach()\n" * 80) * (n // 80 + 1)
    ),
    "deep attributes": deep_attributes,
    "nested blocks": nested_blocks,
    "nested functions": nested_functions,
    "nested calls": nested_calls,
    "kernels": lambda n: (
        HEAD
        + "import triton\n"
        + "".join(
            f"@triton.jit\ndef kernel{i}(q, k, v):\n    x = tl.dot(q, k)\n    return x\ndef attention_{i}(q, k, v):\n    kernel{i}[(1,)](q, k, v)\n    return q.detach()\n"
            for i in range(n)
        )
    ),
    "custom operators": lambda n: (
        HEAD
        + "".join(
            f'@torch.library.custom_op("a::f{i}", mutates_args=())\ndef f{i}(q: T, k: T, v: T) -> T:\n    return torch.softmax(q @ k, -1) @ v\ndef b{i}(ctx, g):\n    return g.detach(), None, None\nf{i}.register_autograd(b{i})\n'
            for i in range(n)
        )
    ),
    "hooks in a chain": lambda n: _each(
        "def h{i}(g):\n    g.register_hook(h{j})\n    return h{j}(g.detach())\n",
        n,
        "def attention_2(q, k, v):\n    q.register_hook(h0)\n    return q @ k\n",
    ),
    "blank lines": lambda n: (
        HEAD + "\n" * (20 * n) + "x = 1\n" + "   \n" * (5 * n) + "def attention_2(q, k, v):\n    return q.detach()\n"
    ),
    "continued lines": lambda n: (
        HEAD + "x = 1 " + "\\\n" * (5 * n) + "+ 1\ndef attention_2(q, k, v):\n    return q.detach()\n"
    ),
    "comments": lambda n: HEAD + "# q.detach() softmax attention theria: ignore[\n" * n,
    "brackets in comments": lambda n: HEAD + "# theria: ignore" + "[" * (10 * n) + "\n",
    "brackets in a string": lambda n: HEAD + f"x = '{'([{' * (3 * n)}'\n" + "y = q.detach()\n",
    "broken": lambda n: HEAD + "def attention_2(q, k, v):\n" + "    q = q.detach(\n" * n,
    "unclosed": lambda n: HEAD + "def f(" + "(a, " * n + "\n",
    "equals": lambda n: HEAD + "x = " * min(n, 1500) + "1\n",
    "underscores": lambda n: HEAD + "_" * (20 * n) + " = 1\ndef attention_2(q, k, v):\n    return q.detach()\n",
    "long symbols": lambda n: _each("def attention_{i}_{x}{x}{x}(q, k, v):\n    return q.detach()\n", n),
    "one long symbol": lambda n: HEAD + f"def attention_{'x' * (5 * n)}(q, k, v):\n" + "    q = q.detach()\n" * n,
    "semicolons": lambda n: HEAD + "def attention_2(q, k, v):\n    " + "q = q.detach(); " * n + "\n",
    "targets of one helper": lambda n: (
        HEAD
        + "def helper(x):\n"
        + "    x = x.detach()\n" * n
        + "    return x\n"
        + "".join(f"def attention_{i}(q, k, v):\n    return torch.softmax(helper(q) @ k, -1) @ v\n" for i in range(n))
    ),
    "targets of helpers": lambda n: (
        HEAD
        + "".join(f"def f{i}(x):\n    return f{i + 1}(x.detach())\n" for i in range(_root(n)))
        + "".join(f"def attention_{i}(q, k, v):\n    return torch.softmax(f0(q) @ k, -1) @ v\n" for i in range(n))
    ),
}


def list_shapes() -> Iterator[tuple[str, Shape]]:
    """Every shape with its name."""
    places = (in_one_function, in_functions, in_helpers, in_methods, in_classes, in_autograd_functions, in_module)
    for name, form in STATEMENTS.items():
        for place in places:
            yield f"{name}, {place.__name__.replace('_', ' ')}", partial(place, form)
    for place in places:
        yield f"long parts, {place.__name__.replace('_', ' ')}", partial(in_long_parts, place)
    for name, parts in IN_LINE.items():
        yield f"line of {name}", partial(in_line, *parts)
    yield from SPECIAL.items()
