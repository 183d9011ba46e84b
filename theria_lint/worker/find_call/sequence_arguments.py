"""Find the parameters of a constructor that hold several numbers, one a stage or a layer, and how many."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

from theria_lint.worker.find_call.signatures import parse_source, read_constructor_parameters

_FEWEST, _MOST = 2, 32
"""How many numbers there are at least, and at most: no model has more stages, whatever place a text asks for."""

_OF_ONE = frozenset(("len", "enumerate", "tuple", "list", "reversed", "sorted", "sum", "set", "iter", "max", "min"))
"""Functions that take one sequence."""

_SINGLE = ("int", "float", "bool", "str")


@lru_cache(maxsize=64)
def find_sequence_lengths(cls: Any) -> Mapping[str, int]:
    """How many numbers each parameter needs that the class's text takes for a sequence.

    It is unpacked, gone over, measured, read by place, or the text insists that it is one. The same number for all
    whose length is not told. What may be a single number as well is none.
    """
    names = [
        name
        for name, parameter in read_constructor_parameters(cls).items()
        if getattr(parameter.annotation, "__name__", parameter.annotation) not in _SINGLE
    ]
    tree = parse_source(cls)
    uses, told = list(_iter_uses(tree, names)), dict(_iter_told_lengths(tree, names))
    single = {name for name, length in uses if length == 0} - told.keys()
    lengths = {name: length for name, length in uses if name not in single} | told
    longest = max((length for name, length in uses if name in lengths), default=0)
    each = dict.fromkeys(lengths, max(longest, _FEWEST)) | {name: length for name, length in told.items() if length}
    return {name: min(length, _MOST) for name, length in each.items()}


def _iter_told_lengths(tree: ast.AST, names: Collection[str]) -> Iterator[tuple[str, int]]:
    """The names of which the text says how long they are, with that; with 0 where it insists on a sequence alone."""
    for node in ast.walk(tree):
        match node:
            case ast.Assert(test=ast.Call(func=ast.Name(id="isinstance"), args=[ast.Name(id=name), ast.Name(id=kind)])):
                yield from [(name, 0)] if name in names and kind in ("tuple", "list") else []
            case ast.Assign(targets=[ast.Tuple(elts=parts)], value=ast.Name(id=name)) if name in names:
                yield from [] if any(isinstance(part, ast.Starred) for part in parts) else [(name, len(parts))]
            case ast.Compare(
                left=ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]),
                ops=[ast.Eq()],
                comparators=[ast.Constant(value=int(length))],
            ) if name in names:
                yield name, length


def _iter_uses(tree: ast.AST, names: Collection[str]) -> Iterator[tuple[str, int]]:
    """The names that are taken for sequences, each with the least length that is asked for.

    0 where it is asked whether it is one, or where the name comes to stand for something else.
    """
    nodes = list(ast.walk(tree))
    kept = {
        node.targets[0].attr: node.value.id
        for node in nodes
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in names
    }

    def named(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Name) and node.id in names:
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield from [kept[node.attr]] if node.attr in kept else []

    for node in nodes:
        for taken, length in _iter_sequences(node):
            yield from ((name, length) for name in named(taken))


def _iter_sequences(node: ast.AST) -> Iterator[tuple[ast.AST, int]]:
    """What a piece of syntax takes for a sequence, with the least length that it asks for."""
    match node:
        case ast.Subscript(value=taken, slice=ast.Constant(value=int(place))):
            yield taken, place + 1
        case ast.Subscript(value=taken, slice=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(place)))):
            yield taken, place
        case ast.Subscript(value=taken, slice=ast.Slice()):
            yield taken, 1
        case ast.Starred(value=taken) | ast.For(iter=taken) | ast.comprehension(iter=taken):
            yield taken, 1
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[taken]):
            yield from [(taken, 1)] if not isinstance(getattr(left, "value", None), str) else []
        case ast.Assign(targets=[ast.Tuple(elts=parts)], value=taken):
            yield taken, len(parts)
        case ast.Call(func=ast.Name(id="isinstance"), args=[taken, _]):
            yield taken, 0
        case ast.Call(func=ast.Name(id="zip"), args=several) | ast.Call(func=ast.Name(id="map"), args=[_, *several]):
            yield from ((taken, 1) for taken in several)
        case ast.Call(func=ast.Name(id=name), args=[taken]) if name in _OF_ONE:
            yield taken, 1
        case ast.Assign(targets=[ast.Name() as target], value=value):
            own = (getattr(part, "id", None) for part in ast.walk(value))
            yield from [(target, 0)] if target.id not in own else []
