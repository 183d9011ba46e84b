"""Say where a suspect acts that stands outside functions: in what a module or a class gives a name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from theria_lint.model import ELSEWHERE
from theria_lint.static.bound_names import get_targets
from theria_lint.static.dataflow import iter_target_names
from theria_lint.static.module_view import Hit, ModuleView, get_body_lines
from theria_lint.static.scopes import Scope


class BoundUse(NamedTuple):
    """The name that is given to what holds a suspect, and the lines that run when it is called, if any do here."""

    name: str
    reach: tuple[int, int]


def find_bound_use(code: ModuleView, hit: Hit) -> BoundUse | None:
    """The name and the use of what an assignment outside functions gives a name; None for any other place."""
    statement = code.index.find_statement(hit.node)
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return None
    names = [name for target in get_targets(statement) for name in iter_target_names(target)]
    if not names:
        return None
    ranges = list(_iter_wrapped(code, hit.scope, statement.value)) or list(_iter_users(code, set(names)))
    if not ranges:
        is_target = hit.scope.kind == "module" and isinstance(statement.value, ast.Call)
        return BoundUse(names[0], ELSEWHERE) if is_target else None
    return BoundUse(names[0], (min(first for first, _ in ranges), max(last for _, last in ranges)))


def _iter_wrapped(code: ModuleView, scope: Scope, value: ast.expr) -> Iterator[tuple[int, int]]:
    """The bodies of the functions that a value is made of."""
    parts = [node for node in ast.walk(value) if isinstance(node, ast.Name | ast.Attribute)]
    for found in (found for node in parts for found in code.attention.list_named(scope, node)):
        if found in code.attention.active:
            yield _get_lines(found)


def _iter_users(code: ModuleView, names: set[str]) -> Iterator[tuple[int, int]]:
    """The bodies of the attention functions that read one of some names."""
    for scope in code.active:
        if any(node.id in names for node in scope.select_nodes(ast.Name)):
            yield _get_lines(scope)


def _get_lines(scope: Scope) -> tuple[int, int]:
    if isinstance(scope.node, ast.Lambda):
        assert scope.node.end_lineno is not None
        return scope.node.lineno, scope.node.end_lineno
    return get_body_lines(scope.function)
