"""THL009: ``torch.compile`` on attention code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule
from theria_lint.static import attention_names
from theria_lint.static.module_view import Call, Hit, ModuleCode, ambiguity, body_lines, lines_of, refers_to_attention
from theria_lint.static.scopes import NameTable, Scope, dotted


def find(code: ModuleCode, rule: Rule) -> Iterator[Hit]:
    """Compiling decorators of attention code, and calls that compile it."""
    names = rule.names("function")
    for scope in (*code.active, *_attention_classes(code)):
        yield from _decorators(code, names, scope)
    for call in code.calls("anywhere"):
        if not call.place.in_header and not names.isdisjoint(call.meanings):
            yield from _calls(code, names, call)


def _attention_classes(code: ModuleCode) -> list[Scope]:
    active = code.attention.active
    return [scope for scope in code.index.classes() if any(child in active for child in scope.method("forward"))]


def _decorators(code: ModuleCode, names: frozenset[str], scope: Scope) -> Iterator[Hit]:
    assert scope.parent is not None
    for decorator in scope.decorators:
        callee = _compiler(scope.parent.names, decorator)
        candidates = scope.parent.names.resolve_node(callee)
        if not names.isdisjoint(candidates):
            token = f"@{dotted(callee)}"
            reach = body_lines(scope.function) if scope.kind == "function" else lines_of(scope.node)
            detail = ambiguity(names, candidates)
            yield Hit(decorator, code.span(decorator), token, scope, reach, "drop-decorator", None, detail)


def _compiler(names: NameTable, decorator: ast.expr) -> ast.expr:
    """What a decorator calls: ``torch.compile`` of ``@torch.compile(…)`` and of ``@partial(torch.compile, …)``."""
    if not isinstance(decorator, ast.Call):
        return decorator
    partial = decorator.args and "functools.partial" in names.resolve_node(decorator.func)
    return decorator.args[0] if partial else decorator.func


def _calls(code: ModuleCode, names: frozenset[str], call: Call) -> Iterator[Hit]:
    place, node, candidates = call.place, call.node, call.meanings
    whole, subject = node, node.args[0] if node.args else None
    outer = code.index.parents.get(node)
    if subject is None and isinstance(outer, ast.Call) and outer.func is node and outer.args:
        whole, subject = outer, outer.args[0]
    if subject is None:
        return
    if isinstance(subject, ast.Call):  # an instance: what counts is its class
        subject = subject.func
    inside = place.scope in code.attention.active
    if inside or _names_attention(subject) or refers_to_attention(code, place.scope, subject):
        token = f"{dotted(node.func)}()"
        detail = ambiguity(names, candidates)
        yield Hit(whole, code.span(whole), token, place.scope, lines_of(whole), "first-argument", None, detail)


def _names_attention(subject: ast.expr) -> bool:
    name = (dotted(subject) or "").rpartition(".")[2]
    return attention_names.function_is_attention(name) or attention_names.class_is_attention(name)
