"""THL003: ``@once_differentiable``, and the backward that it guards."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule
from theria_lint.static.detectors import listed_names
from theria_lint.static.detectors.opaque_backward import find_first_opaque
from theria_lint.static.module_view import Hit, ModuleView, get_lines, refers_to_attention
from theria_lint.static.scopes import Scope, get_dotted_name


def find_once_differentiable(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """The listed decorators; ``variant`` is "opaque" on a backward that computes its gradients off the graph."""
    for hit in (*listed_names.find_listed_names(code, rule), *_find_calls(code, rule)):
        guarded = find_first_opaque(code, _find_guarded(code, hit))
        if guarded is None:
            yield hit
        else:
            where = f"`{guarded.token}`, line {guarded.span.line}"
            yield Hit(hit.node, hit.span, hit.token, hit.scope, hit.reach, hit.neutraliser, "opaque", where)


def _find_calls(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """The decorator called on a function that attention runs: ``backward = once_differentiable(_backward)``."""
    names = rule.collect_names("decorator")
    for call in code.find_calls("anywhere"):
        if call.site.in_header or names.isdisjoint(call.meanings) or not call.node.args:
            continue
        if refers_to_attention(code, call.site.scope, call.node.args[0]):
            token = f"{get_dotted_name(call.node.func)}()"
            span, lines = code.get_span(call.node), get_lines(call.node)
            yield Hit(call.node, span, token, call.site.scope, lines, "first-argument")


def _find_guarded(code: ModuleView, hit: Hit) -> Scope:
    """The backward that a hit marks: the function around a decorator, or the argument of a call."""
    if isinstance(hit.node, ast.Call) and hit.neutraliser == "first-argument":
        found = code.index.by_name.get(get_dotted_name(hit.node.args[0]) or "", ())
        return next((scope for scope in found if scope.kind == "function"), hit.scope)
    return hit.scope
