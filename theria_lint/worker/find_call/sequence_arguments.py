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
    """How many numbers each parameter needs that the class's text takes for a sequence: all the same number.

    It is unpacked, gone over, measured, or read by place. What may be a single number as well is none.
    """
    names = [
        name
        for name, parameter in read_constructor_parameters(cls).items()
        if getattr(parameter.annotation, "__name__", parameter.annotation) not in _SINGLE
    ]
    uses = list(_iter_uses(parse_source(cls), names))
    single = {name for name, length in uses if length == 0}
    lengths = {name: length for name, length in uses if name not in single}
    longest = max((length for name, length in uses if name in lengths), default=0)
    return dict.fromkeys(lengths, min(max(longest, _FEWEST), _MOST))


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
