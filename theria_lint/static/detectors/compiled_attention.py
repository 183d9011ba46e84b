"""THL009: ``torch.compile`` on attention code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule
from theria_lint.static import attention_names
from theria_lint.static.dataflow import get_values
from theria_lint.static.module_view import (
    Hit,
    ModuleView,
    ResolvedCall,
    get_body_lines,
    get_lines,
    list_meanings,
    refers_to_attention,
)
from theria_lint.static.scopes import NameTable, Scope, get_dotted_name, get_self_name


def find_compiled_attention(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Compiling decorators of attention code, and calls that compile it."""
    names = rule.collect_names("function")
    for scope in (*code.active, *_list_attention_classes(code)):
        yield from _find_compiling_decorators(code, names, scope)
    for call in code.find_calls("anywhere"):
        if not call.site.in_header and not names.isdisjoint(call.meanings):
            yield from _find_compiling_calls(code, names, call)
        elif isinstance(call.node.func, ast.Attribute) and call.node.func.attr in rule.collect_names("method"):
            yield from _find_compiled_objects(code, call, call.node.func)


def _list_attention_classes(code: ModuleView) -> list[Scope]:
    active = code.attention.active
    return [
        scope
        for scope in code.index.iter_classes()
        if any(child in active for child in scope.find_own_methods("forward"))
    ]


def _find_compiling_decorators(code: ModuleView, names: frozenset[str], scope: Scope) -> Iterator[Hit]:
    assert scope.parent is not None
    for decorator in scope.decorators:
        callee = _get_compiler(scope.parent.names, decorator)
        candidates = scope.parent.names.resolve_node(callee)
        if not names.isdisjoint(candidates):
            token = f"@{get_dotted_name(callee)}"
            reach = get_body_lines(scope.function) if scope.kind == "function" else get_lines(scope.node)
            detail = list_meanings(names, candidates)
            yield Hit(decorator, code.get_span(decorator), token, scope, reach, "drop-decorator", None, detail)


def _get_compiler(names: NameTable, decorator: ast.expr) -> ast.expr:
    """What a decorator calls: ``torch.compile`` of ``@torch.compile(…)`` and of ``@partial(torch.compile, …)``."""
    if not isinstance(decorator, ast.Call):
        return decorator
    partial = decorator.args and "functools.partial" in names.resolve_node(decorator.func)
    return decorator.args[0] if partial else decorator.func


def _find_compiling_calls(code: ModuleView, names: frozenset[str], call: ResolvedCall) -> Iterator[Hit]:
    site, node, candidates = call.site, call.node, call.meanings
    whole, subject = node, node.args[0] if node.args else None
    outer = code.index.parents.get(node)
    if subject is None and isinstance(outer, ast.Call) and outer.func is node and outer.args:
        whole, subject = outer, outer.args[0]
    if subject is None:
        return
    if isinstance(subject, ast.Call):  # an instance: what counts is its class
        subject = subject.func
    inside = site.scope in code.attention.active
    if inside or _is_attention_by_name(subject) or refers_to_attention(code, site.scope, subject):
        token = f"{get_dotted_name(node.func)}()"
        detail = list_meanings(names, candidates)
        yield Hit(whole, code.get_span(whole), token, site.scope, get_lines(whole), "first-argument", None, detail)


def _find_compiled_objects(code: ModuleView, call: ResolvedCall, method: ast.Attribute) -> Iterator[Hit]:
    """A module that compiles itself in attention code or its constructor, or attention that somebody compiles."""
    site, subject = call.site, method.value
    inside = site.scope in code.attention.active or site.scope in code.attention.setup
    instance = get_self_name(site.scope)
    own = inside and isinstance(subject, ast.Name) and subject.id == instance
    if call.meanings or call.node.args or not (own or _is_attention_object(code, site.scope, subject)):
        return
    span, token = code.get_member_span(method, call.node), f".{method.attr}()"
    yield Hit(call.node, span, token, site.scope, get_lines(call.node), "drop-call")


def _is_attention_object(code: ModuleView, scope: Scope, subject: ast.expr) -> bool:
    """Whether an expression is an instance of an attention class, by what it is assigned or by its name."""
    made = [value for value in get_values(scope, get_dotted_name(subject) or "") if isinstance(value, ast.Call)]
    name = (get_dotted_name(subject) or "").rpartition(".")[2]
    return attention_names.is_attention_member_name(name) or any(
        refers_to_attention(code, scope, value.func) for value in made
    )


def _is_attention_by_name(subject: ast.expr) -> bool:
    name = (get_dotted_name(subject) or "").rpartition(".")[2]
    return attention_names.is_attention_function_name(name) or attention_names.is_attention_class_name(name)
