"""Recognise functions that take q, k and v to look at them, to update or to load them: their graph is nobody's."""

from __future__ import annotations

import ast

from theria_lint.static import attention_names
from theria_lint.static.attention_names import make_word_set
from theria_lint.static.dataflow import get_values
from theria_lint.static.scopes import Scope, get_callee_name, is_switched_off, returns_value

_NUMBERS = make_word_set("item tolist numpy float int bool len str round any all")
_TRAINING = frozenset({"step", "zero_grad"})


def looks_on(scope: Scope) -> bool:
    """Whether a function that computes attention does so to measure, draw or train it."""
    if attention_names.is_attention_function_name(scope.name):
        return False
    return attention_names.is_observer_name(scope.name) or _returns_numbers(scope) or _trains(scope)


def handles_tensors(scope: Scope) -> bool:
    """Whether a function that takes q, k and v, and computes no attention by what its file tells, only handles them."""
    if attention_names.names_attention(scope.name):
        return False
    owner = scope.parent
    keeps = owner is not None and owner.kind == "class" and attention_names.keeps_tensors(owner.name)
    return (
        keeps
        or attention_names.is_preparation_name(scope.name)
        or attention_names.is_observer_name(scope.name)
        or not returns_value(scope)
        or is_switched_off(scope)
    )


def _trains(scope: Scope) -> bool:
    """Whether a function steps an optimiser."""
    called = {call.func.attr for call in scope.select_nodes(ast.Call) if isinstance(call.func, ast.Attribute)}
    return "backward" in called and not called.isdisjoint(_TRAINING)


def _returns_numbers(scope: Scope) -> bool:
    """Whether all that a function returns is numbers, or arrays that are no tensors."""
    returned = [node.value for node in scope.select_nodes(ast.Return) if node.value is not None]
    return bool(returned) and all(_is_number(scope, value, frozenset()) for value in returned)


def _is_number(scope: Scope, value: ast.expr, seen: frozenset[str]) -> bool:
    if isinstance(value, ast.Tuple | ast.List | ast.Set):
        return bool(value.elts) and all(_is_number(scope, part, seen) for part in value.elts)
    if isinstance(value, ast.Dict):
        return bool(value.values) and all(_is_number(scope, part, seen) for part in value.values)
    if isinstance(value, ast.UnaryOp):
        return _is_number(scope, value.operand, seen)
    if isinstance(value, ast.BinOp):
        return _is_number(scope, value.left, seen) and _is_number(scope, value.right, seen)
    if isinstance(value, ast.Call):
        return get_callee_name(value) in _NUMBERS
    if isinstance(value, ast.Name) and value.id not in seen:
        assigned = get_values(scope, value.id)
        return bool(assigned) and all(_is_number(scope, given, seen | {value.id}) for given in assigned)
    return isinstance(value, ast.Constant | ast.JoinedStr)
