"""THL013: computed tensors that become parameters, which are leaves, while attention runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule, RuleMatch
from theria_lint.static.attention_names import make_word_set
from theria_lint.static.dataflow import STATE, collect_derived_names, iter_loaded_names
from theria_lint.static.learned_members import collect_learned_names, loads_learned
from theria_lint.static.module_view import Hit, ModuleView, ResolvedCall, get_lines, list_meanings
from theria_lint.static.scopes import Scope, get_callee_name, get_dotted_name, get_self_name

# What these return is new memory, whatever they are given.
_NEW = make_word_set(
    "zeros ones empty full rand randn randint arange eye linspace zeros_like ones_like empty_like full_like rand_like "
    "randn_like new_zeros new_ones new_empty new_full"
)


def find_new_parameters(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Calls in attention code that make a parameter of what the code computes, or write it into parameters."""
    for call in code.find_calls():
        for match in rule.matches:
            if call.site.in_header or not _is_meant(match, call):
                continue
            if _is_computed(code, call, of_instance=match.kind == "function"):
                yield _make_hit(code, match, call)


def _is_meant(match: RuleMatch, call: ResolvedCall) -> bool:
    """Whether a call is of a function or a method that a table entry lists."""
    if match.kind == "method":
        return isinstance(call.node.func, ast.Attribute) and call.node.func.attr in match.names and not call.meanings
    return not match.names.isdisjoint(call.meanings)


def _is_computed(code: ModuleView, call: ResolvedCall, *, of_instance: bool) -> bool:
    """Whether the first argument depends on the tensors that a function is given, or on what its instance learns.

    With ``of_instance`` on anything else of the instance too. The state of a layer is found where it is made.
    """
    value = call.node.args[0] if call.node.args else None
    if value is None or (isinstance(value, ast.Call) and get_callee_name(value) in _NEW):
        return False
    scope = call.site.scope
    if of_instance:
        given = collect_derived_names(scope, scope.parameters)
    elif loads_learned(code.index, scope, value):
        return True
    else:
        sources = {*scope.parameters, *collect_learned_names(code.index, scope)}
        given = collect_derived_names(scope, sources - _collect_layers(scope))
    return any(name in given for name in iter_loaded_names(value, values=True))


def _collect_layers(scope: Scope) -> set[str]:
    """The instance, and the names whose states a function asks for."""
    asked = (
        call.func.value
        for call in scope.select_nodes(ast.Call)
        if isinstance(call.func, ast.Attribute) and call.func.attr == STATE
    )
    return {get_self_name(scope) or "self", *(name for layer in asked for name in iter_loaded_names(layer))}


def _make_hit(code: ModuleView, match: RuleMatch, call: ResolvedCall) -> Hit:
    node, scope, detail = call.node, call.site.scope, list_meanings(match.names, call.meanings)
    if match.kind == "method":
        assert isinstance(node.func, ast.Attribute)
        span, token = code.get_member_span(node.func, node), f".{node.func.attr}()"
    else:
        span, token = code.get_span(node), f"{get_dotted_name(node.func)}()"
    # As an argument of another call it is stored where no rewrite of an expression reaches.
    stored = match.neutraliser is not None and isinstance(code.index.parents.get(node), ast.Call)
    neutraliser = None if stored else match.neutraliser
    return Hit(node, span, token, scope, get_lines(node), neutraliser, match.message, detail)
