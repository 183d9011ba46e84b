"""Find what code counts and asks about: after a hundred steps it may compute something else than in the first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import islice

from torch import Tensor, nn

from theria_lint.worker.find_call.signatures import read_identifier

_MOST = 12
"""How many numbers are worth a trial."""


def list_counts(module: nn.Module, tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Counters of a module and of those in it, by their paths, each with a number at which code asks about it.

    A counter is an attribute or a buffer of one number that code adds to. It may ask before it adds, or after.
    """
    counted = set(filter(None, map(_read_counted, ast.walk(tree))))
    asked = [question for node in ast.walk(tree) for question in _list_questions(node) if question[0] in counted]
    found = (
        (f"{path}.{name}".removeprefix("."), number + more)
        for name, other, around in asked
        for path, holder in module.named_modules()
        if _is_number(getattr(holder, name, None)) and (number := _read_number(other, holder)) is not None
        for more in around
    )
    yield from islice(dict.fromkeys(found), _MOST)


def _read_counted(node: ast.AST) -> str | None:
    """The attribute that is added to: ``self.n += 1``, ``self.n = self.n + 1``, ``self.n.add_(1)``."""
    match node:
        case ast.AugAssign(target=ast.Attribute() as target):
            return read_identifier(target)
        case ast.Assign(targets=[ast.Attribute() as target], value=ast.BinOp(left=ast.Attribute() as left)):
            return read_identifier(target) if read_identifier(left) == read_identifier(target) else None
        case ast.Call(func=ast.Attribute(value=ast.Attribute() as target, attr="add_")):
            return read_identifier(target)
    return None


def _list_questions(node: ast.AST) -> Iterator[tuple[str, ast.expr, tuple[int, ...]]]:
    """Which attribute is held against what, or divided by it; and the counts around that number that may matter."""
    match node:
        case ast.Compare(left=left, comparators=[right]):
            pairs = [(left, right), (right, left)]
            yield from ((read_identifier(one) or "", other, (0, 1, -1)) for one, other in pairs)
        case ast.BinOp(left=left, op=ast.Mod(), right=right):
            yield read_identifier(left) or "", right, (-1, 0)


def _read_number(node: ast.expr, holder: nn.Module) -> int | None:
    """A whole number that stands there, or in an attribute."""
    number = node.value if isinstance(node, ast.Constant) else getattr(holder, read_identifier(node) or "", None)
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _is_number(held: object) -> bool:
    if isinstance(held, Tensor):
        return held.numel() == 1 and not held.requires_grad
    return isinstance(held, int | float) and not isinstance(held, bool)
