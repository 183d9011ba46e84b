"""THL012: straight-through estimators, ``x + (f(x) - x).detach()`` and its like."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule
from theria_lint.static.module_view import CodeSite, Hit, ModuleView, get_lines
from theria_lint.static.scopes import get_dotted_name


def find_straight_through(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Sums in which a term and its own detached value cancel, so that the gradient is a surrogate's."""
    for site in code.find_sites():
        node = site.node
        parent = code.index.parents.get(node)
        if _is_sum(node) and not _is_sum(parent):
            yield from _find_surrogates(code, site, node)


def _find_surrogates(code: ModuleView, site: CodeSite, node: ast.AST) -> Iterator[Hit]:
    terms = list(_iter_terms(node, 1))
    detached = [(sign, call) for sign, call in terms if _is_detach(call)]
    if not any(_cancels_term(terms, sign, call) for sign, call in detached):
        return
    for _, call in detached:
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Attribute)
        if call.args:
            token = f"{get_dotted_name(call.func)}()"
            yield Hit(call, code.get_span(call), token, site.scope, get_lines(call), "first-argument")
        else:
            span = code.get_member_span(call.func, call)
            yield Hit(call, span, ".detach()", site.scope, get_lines(call), "drop-call")


def _cancels_term(terms: list[tuple[int, ast.AST]], sign: int, call: ast.AST) -> bool:
    """Whether a part of what ``call`` detaches has its opposite, not detached, among the terms of the sum."""
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Attribute)
    plain = {(other, ast.dump(term)) for other, term in terms if not _is_detach(term)}
    cut = call.args[0] if call.args else call.func.value
    return any((-sign * inner, ast.dump(part)) in plain for inner, part in _iter_terms(cut, 1))


def _is_sum(node: ast.AST | None) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)


def _iter_terms(node: ast.AST, sign: int) -> Iterator[tuple[int, ast.AST]]:
    """The signed terms of a sum, nested sums opened."""
    stack = [(sign, node)]
    while stack:
        sign, current = stack.pop()
        if isinstance(current, ast.BinOp) and isinstance(current.op, ast.Add | ast.Sub):
            stack.append((sign if isinstance(current.op, ast.Add) else -sign, current.right))
            stack.append((sign, current.left))
        else:
            yield sign, current


def _is_detach(term: ast.AST) -> bool:
    """Whether a term is ``x.detach()`` or ``torch.detach(x)``."""
    return isinstance(term, ast.Call) and isinstance(term.func, ast.Attribute) and term.func.attr == "detach"
