"""The axes of tensors that are no q, k and v: read off a function's text, and equated as its complaints ask.

Every axis has a size of its own, until a run shows that two are one.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from theria.probes.sweep import Shape
from theria_lint.dynamic.worker.calling.written import Symbols, statements_in

BATCH, TIME, HEADS, WIDTH = "batch", "time", "heads", "width"
_KINDS = (
    (BATCH, r"b|bs|bsz|batch(_?size)?|z"),
    (HEADS, r"h|g|nh|n_?heads?\w*|num_heads|heads?"),
    (TIME, r"[tlsnmij]|len|length|\w*seq_?len\w*|seq|time|nodes?|tokens|n_\w*|num_nodes"),
)
_BY_RANK = {1: (WIDTH,), 2: (TIME, WIDTH), 3: (BATCH, TIME, WIDTH), 4: (BATCH, HEADS, TIME, WIDTH)}
_OF_WEIGHTS = {1: (WIDTH,), 2: (WIDTH, WIDTH), 3: (HEADS, WIDTH, WIDTH)}

WEIGHTS = re.compile(r"^w$|^w_|^w[qkvo]|_w$|weights?$|proj|kernel|^u_|^theta|matrix", re.IGNORECASE)
VECTORS = re.compile(r"^a$|^a_|_a$|^b$|^b_|bias|vec|^att_", re.IGNORECASE)
_COMBINED = re.compile(r"q?kv(?=_)|(?<=_)q?kv", re.IGNORECASE)

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


@dataclass(frozen=True)
class Axis:
    """An axis of the parameter ``name``; ``kind`` is what is known of it.

    ``times``: how many of one width lie side by side in it, as in the weights of q, k and v in one matrix.
    """

    kind: str
    name: str
    index: int
    times: int = 1

    @property
    def single(self) -> Axis:
        """One of those that lie side by side."""
        return replace(self, times=1)


Axes = tuple[Axis, ...]
Plan = Mapping[str, Axes]
"""The axes of each tensor, by the name of its parameter."""


def facts_in(text: str) -> dict[str, Symbols]:
    """The axes of names as a text describes, unpacks or contracts them; what it says first counts."""
    found: dict[str, Symbols] = {}
    for name, symbols in (*statements_in(text), *_in_code(text)):
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


def axes_of(name: str, facts: Mapping[str, Symbols], *, flat: bool) -> list[Axes]:
    """The axes that a tensor may have, the likeliest first; ``flat``: there is no axis of batch in this code."""
    found = [_own(name, [_kind(symbol) for symbol in facts[name]])] if name in facts else []
    if _COMBINED.search(name) and (WEIGHTS.search(name) or VECTORS.search(name)):
        narrow = Axis(WIDTH, name, 0)
        wide = replace(narrow, times=3 if "qkv" in name.lower() else 2)
        found += [(wide,)] if VECTORS.search(name) else [(narrow, wide), (wide, narrow)]
    ranks: Sequence[int] = (2, 3, 4) if flat else (3, 2, 4)
    if VECTORS.search(name):
        ranks = (1, 2, 3)
    elif WEIGHTS.search(name):
        ranks = (2, 3, 1)
    kinds = _OF_WEIGHTS if WEIGHTS.search(name) else _BY_RANK
    return list(dict.fromkeys(found + [_own(name, kinds[rank]) for rank in ranks]))


def _own(name: str, kinds: Sequence[str]) -> Axes:
    return tuple(Axis(kind, name, i) for i, kind in enumerate(kinds))


def _kind(symbol: str) -> str:
    return next((kind for kind, pattern in _KINDS if re.fullmatch(pattern, symbol.lower())), WIDTH)


def sizes_for(plan: Plan, shape: Shape) -> dict[Axis, int]:
    """A size for each axis, no two the same but where one is several of the other."""
    free = {
        BATCH: (shape.batch + 1, 1),
        HEADS: (shape.heads, shape.heads),
        TIME: (shape.queries, 1),
        WIDTH: (shape.dim, 2),
    }
    axes = [axis for axes in plan.values() for axis in axes]
    singles: dict[Axis, int] = {}
    for axis in dict.fromkeys(axis.single for axis in axes):
        size, step = free[axis.kind]
        while size in singles.values():
            size += step
        singles[axis] = size
    return {axis: axis.times * singles[axis.single] for axis in axes}


def equated(plan: Plan, shape: Shape, complaint: str) -> Iterator[Plan]:
    """The plans in which two axes are one, as a complaint asks; and, if it asks for nothing, all of a kind are."""
    axes = {size: axis for axis, size in sizes_for(plan, shape).items()}
    asked = False
    for one, other in _asked(complaint):
        if one != other and one in axes and other in axes and _may_be_one(axes[one], axes[other]):
            asked = True
            yield _renamed(plan, {axes[other].single: axes[one].single})
    if not asked:
        first: dict[str, Axis] = {}
        same = {axis.single: first.setdefault(axis.kind, axis.single) for axis in axes.values()}
        if any(axis != kept for axis, kept in same.items()):
            yield _renamed(plan, same)


def _asked(complaint: str) -> Iterator[tuple[int, int]]:
    for pattern in _EQUAL:
        yield from ((int(a), int(b)) for a, b in pattern.findall(complaint))
    for a, b, c, d in _PAIRS.findall(complaint):
        yield from ((int(a), int(c)), (int(b), int(d)))


def _may_be_one(one: Axis, other: Axis) -> bool:
    """Whether two axes may be the same: a batch is nothing else, and three side by side are not one."""
    return one.times == other.times and (BATCH not in (one.kind, other.kind) or one.kind == other.kind)


def _renamed(plan: Plan, singles: Mapping[Axis, Axis]) -> Plan:
    return {
        name: tuple(replace(singles.get(axis.single, axis.single), times=axis.times) for axis in axes)
        for name, axes in plan.items()
    }
