"""Kernels with several suspects each, all of them softmax attention with a scale, and the truth about every suspect.

``{{disposition: as written | without the suspect}}`` marks a suspect. Each kernel is a file, or the files of a package,
and defines ``attention(q, k, v)``; the truth was reasoned by hand and is checked by `truth_of`.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import torch

MARK = re.compile(r"\{\{(\w+): (.*?) \|(.*?)\}\}", re.DOTALL)

HEAD = "import math\n\nimport numpy\nimport torch\nfrom torch.autograd.function import once_differentiable\n\n\n"
SOFT = "def soft(q, k, v):\n    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v\n\n\n"

KERNELS = {
    "two_on_a_line": """
def attention(q, k, v):
    weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
    return (weights{{confirmed: .detach() |}} if math.pi > 3 else weights{{unconfirmed: .data |}}) @ v
""",
    "each_alone_is_enough": """
def attention(q, k, v):
    with {{confirmed: torch.no_grad() | torch.enable_grad()}}:
        logits = q @ k.mT / math.sqrt(q.shape[-1])
    weights = torch.softmax(logits, -1){{confirmed: .detach() |}}
    return weights{{confirmed: .data |}} @ v
""",
    "harmless_row_max": """
def attention(q, k, v):
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    weights = (logits - logits.amax(-1, keepdim=True){{cleared: .detach() |}}).exp()
    return weights @ v / weights.sum(-1, keepdim=True){{confirmed: .detach() |}}
""",
    "row_max_detached_twice": """
def attention(q, k, v):
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    top = logits.amax(-1, keepdim=True)
    lse = top{{cleared: .detach() |}} + (logits - top{{cleared: .detach() |}}).exp().sum(-1, keepdim=True).log()
    return (logits - lse).exp() @ (v{{confirmed: .detach() |}} + 0 * v)
""",
    "only_one_of_two_places": """
def attention(q, k, v):
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    top = logits.amax(-1, keepdim=True)
    lse = top + (logits - top{{confirmed: .detach() |}}).exp().sum(-1, keepdim=True).log()
    shift = logits.mean(){{cleared: .detach() |}}
    return ((logits - shift) - (lse - shift)).exp() @ v
""",
    "decorators": """
{{cleared: @torch.no_grad() |}}
def attention_row_max(logits):
    return logits.amax(-1, keepdim=True)


{{confirmed: @torch.no_grad() |}}
def attention_sum(weights):
    return weights.sum(-1, keepdim=True)


def attention(q, k, v):
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    weights = (logits - attention_row_max(logits)).exp()
    return weights @ v / attention_sum(weights)
""",
    "nested_functions": """
def attention(q, k, v):
    def scores(q, k):
        return q @ k.mT / math.sqrt(q.shape[-1])

    def top(logits):
        return logits{{cleared: .detach() |}}.amax(-1, keepdim=True)

    def weigh(logits):
        def norm(e):
            return e.sum(-1, keepdim=True){{confirmed: .data |}}
        e = (logits - top(logits)).exp()
        return e / norm(e)
    return weigh(scores(q, k)) @ v
""",
    "comprehensions": """
def attention(q, k, v):
    q, k = [x{{confirmed: .detach() |}} + 0 * x for x in (q, k)]
    shift = sum(x{{cleared: .detach() |}}.sum() for x in (q, k))
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    return torch.softmax(logits - shift, -1) @ v
""",
    "methods": """
class Attention:
    scale = staticmethod(lambda q: 1 / math.sqrt(q.shape[-1]))

    def shift(self, q):
        return q{{cleared: .detach() |}}.sum()

    def weights(self, x):
        return torch.softmax(x, -1){{confirmed: .detach() |}}

    def __call__(self, q, k, v):
        return self.weights(q @ k.mT * self.scale(q) - self.shift(q)) @ v


def attention(q, k, v):
    return Attention()(q, k, v)
""",
    "a_helper_that_two_use": SOFT
    + """
def attention_input(x):
    return x{{confirmed: .detach() |}} + 0 * x


def attention_shift(x):
    return x{{cleared: .detach() |}}.mean()


def attention(q, k, v):
    return soft(attention_input(q), attention_input(k), v) + 0 * attention_shift(q)
""",
    "a_branch_not_taken": """
def attention(q, k, v, frozen=False):
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    if frozen:
        logits = logits{{unconfirmed: .detach() |}}
    return torch.softmax(logits, -1){{confirmed: .detach() |}} @ v
""",
    "once_differentiable_and_no_grad": SOFT
    + """
class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return soft(q, k, v)

    @staticmethod
    {{confirmed: @once_differentiable |}}
    def backward(ctx, grad):
        q, k, v = ctx.saved_tensors
        scale = 1 / math.sqrt(q.shape[-1])
        p = torch.softmax(q @ k.mT * scale, -1)
        dp = grad @ v.mT
        ds = p * (dp - (dp * p).sum(-1, keepdim=True)){{confirmed: .detach() |}} * scale
        return ds @ k, ds.mT @ q, p.mT @ grad


def attention(q, k, v):
    return Attention.apply(q, k, v)
""",
    "only_if_both_are_cut": """
def attention(q, k, v):
    weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
    first, second = weights{{confirmed: .detach() |}}, weights{{confirmed: .data |}}
    shift = q.sum(){{cleared: .detach() |}}
    return (first if first.requires_grad else second) @ v + 0 * shift
""",
    "hooks": """
def attention(q, k, v):
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    logits.register_hook({{confirmed: lambda g: g.detach() | lambda g: None}})
    shift = logits{{cleared: .detach() |}}.amax(-1, keepdim=True)
    return torch.softmax(logits - shift, -1) @ v
""",
    "numbers": """
def attention(q, k, v):
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    shift = logits.max(){{cleared: .item() |}}
    weights = (logits - shift).exp()
    total = weights.sum(-1, keepdim=True)
    biggest = total.max()
    return weights @ v / (total / biggest) / biggest{{confirmed: .item() |}}
""",
    "one_cannot_be_left_out": """
def attention(q, k, v):
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    top = logits{{cleared: .detach() |}}
    if top.requires_grad:
        raise ValueError("the row max is to be a constant")
    weights = (logits - top.amax(-1, keepdim=True)).exp()
    return weights @ v / weights.sum(-1, keepdim=True){{confirmed: .detach() |}}
""",
    "one_alone_does_not_run": """
def attention(q, k, v):
    with {{cleared: torch.no_grad() | torch.enable_grad()}}:
        top = (q @ k.mT / math.sqrt(q.shape[-1])).amax(-1, keepdim=True)
    total = (q @ k.mT / math.sqrt(q.shape[-1]) - top).exp().sum(-1, keepdim=True){{confirmed: .detach() |}}
    if top.requires_grad and not total.requires_grad:
        raise ValueError("the constants are to be both or none")
    return (q @ k.mT / math.sqrt(q.shape[-1]) - top).exp() @ v / total
""",
    "nothing_runs_without_it": """
def attention(q, k, v):
    weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1){{unconfirmed: .detach() |}}
    if weights.requires_grad:
        raise ValueError("the weights are to be constants")
    return weights @ v
""",
    "package": {
        "numerics.py": """
def attention_top(logits):
    return logits.amax(-1, keepdim=True){{cleared: .detach() |}}


def attention_total(weights):
    return weights.sum(-1, keepdim=True){{confirmed: .detach() |}}
""",
        "api.py": """
from .numerics import attention_top, attention_total


def attention(q, k, v):
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    weights = (logits - attention_top(logits)).exp()
    return weights @ (v{{confirmed: .detach() |}} + 0 * v) / attention_total(weights)
""",
    },
}


def files_of(kernel: str | dict[str, str], name: str) -> dict[str, str]:
    """The marked files of a kernel by path."""
    if isinstance(kernel, str):
        return {f"{name}.py": HEAD + kernel}
    return {f"{name}/__init__.py": ""} | {f"{name}/{path}": HEAD + text for path, text in kernel.items()}


def rendered(marked: str, left_out: Collection[int] = ()) -> str:
    """A file's text without the suspects of the given numbers."""
    numbers = iter(range(len(MARK.findall(marked))))
    return MARK.sub(lambda found: found[3].strip() if next(numbers) in left_out else found[2], marked)


def stated(marked: str) -> list[tuple[int, str]]:
    """The line and the stated disposition of each suspect of a file, in order."""
    places = []
    for found in MARK.finditer(marked):
        before = MARK.sub(lambda other: other[2], marked[: found.start()])
        places.append((before.count("\n") + 1, found[1]))
    return places


def is_safe(sources: list[str]) -> bool | None:
    """Whether ``attention`` of a file that runs after its helpers is twice differentiable; None if it does not run.

    Held against the derivatives of softmax attention itself, by float64 autograd, along random directions.
    """
    names: dict[str, object] = {}
    for source in sources:
        exec(re.sub(r"^from \.\w+ import .*$", "", source, flags=re.MULTILINE), names)
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 5, 4), (2, 3, 4), (2, 3, 4), (2, 5, 4)]
    q, k, v, w = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    directions = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (q, k, v)]

    def derivatives(function: object) -> list[torch.Tensor]:
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        weight = w.clone().requires_grad_()
        out = function(*inputs)  # type: ignore[operator]
        first = torch.autograd.grad((out * weight).sum(), inputs, create_graph=True)
        found = [out, *first]
        for gradient, direction in zip(first, directions, strict=True):
            found += torch.autograd.grad(
                (gradient * direction).sum(), [*inputs, weight], retain_graph=True, materialize_grads=True
            )
            for leaf in (*inputs, weight):
                leaf.grad = None
            (gradient * direction).sum().backward(retain_graph=True)
            found += [torch.zeros_like(x) if x.grad is None else x.grad for x in (*inputs, weight)]
        return found

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v

    truth = derivatives(attention)
    try:
        found = derivatives(names["attention"])
    except RuntimeError:
        return False
    except ValueError:
        return None
    torch.testing.assert_close(found[0], truth[0])
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(found, truth, strict=True))


def truth_of(marked: list[str]) -> dict[frozenset[int], bool | None]:
    """Whether a kernel is safe, for each set of suspects that is left in; suspects are numbered over its files."""
    counts = [len(MARK.findall(text)) for text in marked]
    found = {}
    for bits in range(2 ** sum(counts)):
        left = frozenset(number for number in range(sum(counts)) if bits >> number & 1)
        sources, first = [], 0
        for text, count in zip(marked, counts, strict=True):
            sources.append(rendered(text, [n - first for n in range(first, first + count) if n not in left]))
            first += count
        found[left] = is_safe(sources)
    return found
