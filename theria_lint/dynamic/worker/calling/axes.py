"""The axes of tensors that are no q, k and v: read off a function's text, and equated as its complaints ask.

Every axis has a symbol of its own, and every symbol a size of its own, until the text or a run shows that two are one.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from theria.probes.sweep import Shape
from theria_lint.dynamic.worker.calling.written import Symbols, statements_in

Plan = Mapping[str, Symbols]
"""The symbols of the axes of each tensor, by the name of its parameter."""

_BATCH, _TIME, _HEADS, _WIDTH = "batch", "time", "heads", "width"
_KINDS = (
    (_BATCH, r"b|bs|bsz|batch(_?size)?|z"),
    (_HEADS, r"h|g|nh|n_?heads?\w*|num_heads|heads?"),
    (_TIME, r"[tlsnmij]|len|length|\w*seq_?len\w*|seq|time|nodes?|tokens|n_\w*|num_nodes"),
)
_BY_RANK = {1: (_WIDTH,), 2: (_TIME, _WIDTH), 3: (_BATCH, _TIME, _WIDTH), 4: (_BATCH, _HEADS, _TIME, _WIDTH)}
_OF_WEIGHTS = {1: (_WIDTH,), 2: (_WIDTH, _WIDTH), 3: (_HEADS, _WIDTH, _WIDTH)}

WEIGHTS = re.compile(r"^w$|^w_|^w[qkvo]|_w$|weights?$|proj|kernel|^u_|^theta|matrix", re.IGNORECASE)
VECTORS = re.compile(r"^a$|^a_|_a$|^b$|^b_|bias|vec", re.IGNORECASE)

_EQUAL = (
    re.compile(r"cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)"),
    re.compile(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)"),
    re.compile(r"has size (\d+) for operand \d+ which does not broadcast with previously seen size (\d+)"),
    re.compile(r"expanded size of the tensor \((\d+)\) must match the existing size \((\d+)\)"),
    re.compile(r"Expected size (\d+) but got size (\d+)"),
    re.compile(r"shape of the mask \[(\d+)[^]]*\].*shape of the indexed tensor \[(\d+)"),
    re.compile(r"size mismatch, got input \(\d+\), mat \(\d+x(\d+)\), vec \((\d+)\)"),
)
_PAIRS = re.compile(r"\[(\d+), (\d+)\] but got: \[(\d+), (\d+)\]")


def facts_in(text: str) -> dict[str, Symbols]:
    """The axes of names as a text describes, unpacks or contracts them; what it says first counts."""
    found: dict[str, Symbols] = {}
    for name, symbols in (*statements_in(text), *_in_code(text)):
        if len(symbols) > 1 or name not in found:
            found.setdefault(name, symbols)
    return found


def _in_code(text: str) -> Iterator[tuple[str, Symbols]]:
    """``B, T, C = x.shape`` and ``einsum("btc,cd->btd", x, w)``, whatever the axes are called."""
    try:
        tree = ast.parse(textwrap.dedent(text))
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            yield from _unpacked(node.targets[0], node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("einsum"):
            yield from _contracted(node)


def _unpacked(target: ast.Tuple, value: ast.expr) -> Iterator[tuple[str, Symbols]]:
    sized = value.func if isinstance(value, ast.Call) and not value.args else value
    if not isinstance(sized, ast.Attribute) or sized.attr not in ("shape", "size"):
        return
    axes = tuple(axis.id for axis in target.elts if isinstance(axis, ast.Name))
    if isinstance(sized.value, ast.Name) and len(axes) == len(target.elts):
        yield sized.value.id, axes


def _contracted(call: ast.Call) -> Iterator[tuple[str, Symbols]]:
    texts = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if not texts or "..." in texts[0]:
        return
    terms = texts[0].partition("->")[0].split(",")
    operands = [a for a in call.args if not isinstance(a, ast.Constant)]
    for term, operand in zip(terms, operands, strict=False):
        axes = tuple(term.split() if " " in term.strip() else term.strip())
        if isinstance(operand, ast.Name):
            yield operand.id, axes
        elif isinstance(operand, ast.Subscript) and isinstance(operand.value, ast.Name) and _only_slices(operand):
            yield operand.value.id, axes


def _only_slices(subscript: ast.Subscript) -> bool:
    parts = subscript.slice.elts if isinstance(subscript.slice, ast.Tuple) else [subscript.slice]
    return all(isinstance(part, ast.Slice) for part in parts)


def ranks_of(name: str, facts: Plan, *, flat: bool) -> Sequence[int]:
    """How many axes a tensor may have, the likeliest first; ``flat``: there is no axis of batch in this code."""
    ranks = (2, 3, 4) if flat else (3, 2, 4)
    if VECTORS.search(name):
        ranks = (1, 2, 3)
    elif WEIGHTS.search(name):
        ranks = (2, 3, 1)
    return tuple(dict.fromkeys([*([len(facts[name])] if name in facts else []), *ranks]))


def own_axes(name: str, rank: int, facts: Plan) -> Symbols:
    """Symbols that no other tensor has; what stands before the dot is what is known of the axis."""
    if len(facts.get(name, ())) == rank:
        kinds: Sequence[str] = [_kind(symbol) for symbol in facts[name]]
    else:
        kinds = (_OF_WEIGHTS if WEIGHTS.search(name) else _BY_RANK).get(rank, (_WIDTH,) * rank)
    return tuple(f"{kind}.{name}.{i}" for i, kind in enumerate(kinds))


def _kind(symbol: str) -> str:
    return next((kind for kind, pattern in _KINDS if re.fullmatch(pattern, symbol.lower())), _WIDTH)


def is_position(symbol: str) -> bool:
    """Whether an axis is one of positions or nodes, as far as is known."""
    return symbol.startswith(_TIME)


def sizes_for(plan: Plan, shape: Shape) -> dict[str, int]:
    """A size for each symbol, no two the same."""
    free = {
        _BATCH: (shape.batch + 1, 1),
        _HEADS: (shape.heads, shape.heads),
        _TIME: (shape.queries, 1),
        _WIDTH: (shape.dim, 2),
    }
    found: dict[str, int] = {}
    for symbol in dict.fromkeys(symbol for symbols in plan.values() for symbol in symbols):
        size, step = free[symbol.partition(".")[0]]
        while size in found.values():
            size += step
        found[symbol] = size
    return found


def equated(plan: Plan, shape: Shape, complaint: str) -> Iterator[Plan]:
    """The plans in which two axes are one, as a complaint asks; and, if it asks for nothing, all of a kind are."""
    sizes = {size: symbol for symbol, size in sizes_for(plan, shape).items()}
    asked = False
    for one, other in _asked(complaint):
        if one != other and one in sizes and other in sizes and _may_be_one(sizes[one], sizes[other]):
            asked = True
            yield _renamed(plan, {sizes[other]: sizes[one]})
    if not asked:
        first: dict[str, str] = {}
        same = {symbol: first.setdefault(symbol.partition(".")[0], symbol) for symbol in sizes.values()}
        if any(symbol != kept for symbol, kept in same.items()):
            yield _renamed(plan, same)


def _asked(complaint: str) -> Iterator[tuple[int, int]]:
    for pattern in _EQUAL:
        yield from ((int(a), int(b)) for a, b in pattern.findall(complaint))
    for a, b, c, d in _PAIRS.findall(complaint):
        yield from ((int(a), int(c)), (int(b), int(d)))


def _may_be_one(one: str, other: str) -> bool:
    """Whether two axes may be the same: a batch is nothing else."""
    kinds = {one.partition(".")[0], other.partition(".")[0]}
    return _BATCH not in kinds or len(kinds) == 1


def _renamed(plan: Plan, names: Mapping[str, str]) -> Plan:
    return {name: tuple(names.get(symbol, symbol) for symbol in symbols) for name, symbols in plan.items()}
