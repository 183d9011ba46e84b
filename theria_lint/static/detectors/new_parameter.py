"""THL013: computed tensors that become parameters, which are leaves, while attention runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule, RuleMatch
from theria_lint.static.attention_names import make_word_set
from theria_lint.static.dataflow import collect_derived_names, iter_loaded_names
from theria_lint.static.module_view import Hit, ModuleView, ResolvedCall, get_lines, list_meanings
from theria_lint.static.scopes import get_callee_name, get_dotted_name

# What these return is new memory, whatever they are given.
_NEW = make_word_set(
    "zeros ones empty full rand randn randint arange eye linspace zeros_like ones_like empty_like full_like rand_like "
    "randn_like new_zeros new_ones new_empty new_full"
)


def find_new_parameters(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Calls in attention code that make a parameter of what the code computes, or write it into parameters."""
    for call in code.find_calls():
        for match in rule.matches:
            if not match.names.isdisjoint(call.meanings) and not call.site.in_header and _is_computed(call):
                yield _make_hit(code, match, call)


def _is_computed(call: ResolvedCall) -> bool:
    """Whether the first argument depends on the tensors or the instance that a function is given."""
    value = call.node.args[0] if call.node.args else None
    if value is None or (isinstance(value, ast.Call) and get_callee_name(value) in _NEW):
        return False
    given = collect_derived_names(call.site.scope, call.site.scope.parameters)
    return any(name in given for name in iter_loaded_names(value, values=True))


def _make_hit(code: ModuleView, match: RuleMatch, call: ResolvedCall) -> Hit:
    node, scope = call.node, call.site.scope
    token, detail = f"{get_dotted_name(node.func)}()", list_meanings(match.names, call.meanings)
    # As an argument of another call it is stored where no rewrite of an expression reaches.
    stored = match.neutraliser is not None and isinstance(code.index.parents.get(node), ast.Call)
    neutraliser = None if stored else match.neutraliser
    return Hit(node, code.get_span(node), token, scope, get_lines(node), neutraliser, match.message, detail)
