"""Recognise attention by what a function computes: products, softmax, attention weights."""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import combinations

from theria_lint.static import attention_names
from theria_lint.static.class_lineage import CALL_ENTRIES
from theria_lint.static.dataflow import (
    PRODUCTS,
    collect_derived_names,
    collect_influencing_names,
    get_assignments,
    iter_loaded_names,
)
from theria_lint.static.gradient_calls import takes_gradients
from theria_lint.static.scopes import Scope, get_callee_name, list_arguments

_OPERATION = re.compile(attention_names.OPERATION)
# What also multiplies, takes a softmax and multiplies again, and is not attention.
_OTHER_SOFTMAX = attention_names.make_word_set(
    "loss entropy ce router routing gate gating experts moe sample sampler generate"
)
_QKV = frozenset({"q", "k", "v"})


def has_attention_code(scope: Scope) -> bool:
    """Whether a function's own code computes attention.

    It calls an attention operation; or is matmul, softmax, matmul in this order (of a function of q and k a product and
    a softmax are enough); or it makes q, k and v and multiplies them, however it normalises, or multiplies v by a
    softmax of what it makes of q and k, however it compares the two; or it is a forward that makes q, k and v and
    passes all three on.
    """
    if not _OTHER_SOFTMAX.isdisjoint(attention_names.split_words(scope.name)):
        return False
    if any(_is_attention_operation(scope, call) for call in scope.select_nodes(ast.Call)):
        return True
    products = [node.lineno for node in _iter_products(scope)]
    softmaxes = [] if _is_other_softmax(scope) else _list_softmaxes(scope)
    lines = [call.lineno for call in softmaxes]
    if products and softmaxes and {"q", "k"} <= attention_names.collect_roles(scope.parameters):
        return True  # the weights alone: the values are met elsewhere
    if len(products) >= 2 and softmaxes and min(products) <= min(lines) and max(lines) <= max(products):
        return True
    may_pass_on = scope.name in CALL_ENTRIES
    if (len(products) < 2 and not softmaxes and not may_pass_on) or not _makes_qkv(scope):
        return False
    made = _collect_derived_by_role(scope)
    return (
        _multiplies_all(scope, made)
        or _weighs_values(scope, made, softmaxes)
        or (may_pass_on and (_passes_qkv_on(scope, made) or _passes_each_on(scope, made)))
    )


def normalises_scores(scope: Scope) -> bool:
    """Whether a function takes a softmax of anything."""
    return bool(_list_softmaxes(scope)) and not _is_other_softmax(scope)


def writes_memory(scope: Scope) -> bool:
    """Whether a function takes gradients of a memory of keys and values, as test-time training does."""
    if scope.name == "__init__" or not takes_gradients(scope):
        return False
    bound = _collect_bound(scope)
    if {"k", "v"} <= attention_names.collect_roles([*bound, *scope.parameters]):
        return True
    owner = scope.find_enclosing("class")
    return any(attention_names.is_memory_name(name) for name in (scope.name, owner.name if owner else ""))


def makes_weights(scope: Scope) -> bool:
    """Whether a function's own code ends in a softmax of a product: attention weights, if something multiplies them."""
    softmaxes = _list_softmaxes(scope)
    if not softmaxes or _is_other_softmax(scope):
        return False
    products = [node.lineno for node in _iter_products(scope)]
    return bool(products) and max(products) <= max(call.lineno for call in softmaxes)


def multiplies_results(scope: Scope, calls: Container[ast.AST]) -> bool:
    """Whether a function's own code multiplies what these calls in it returned."""
    if _is_other_softmax(scope):
        return False
    made: set[str] = set()
    for names, value in get_assignments(scope):
        if _holds_call(value, calls):
            made.update(names)
    made = collect_derived_names(scope, made) if made else made
    return any(_uses_any(product, made, calls) for product in _iter_products(scope))


def _is_other_softmax(scope: Scope) -> bool:
    """Whether the names of a function and its class say that its softmax is no attention's."""
    owner = scope.find_enclosing("class")
    named = attention_names.split_words(scope.name)
    if owner is not None and not attention_names.names_attention(owner.name):
        named += attention_names.split_words(owner.name)
    return not _OTHER_SOFTMAX.isdisjoint(named)


def _is_attention_operation(scope: Scope, call: ast.Call) -> bool:
    """Whether an attention operation is called, by its own name or by one that the file gives it."""
    if _OPERATION.fullmatch(get_callee_name(call)):
        return True
    if not isinstance(call.func, ast.Name):
        return False
    return any(_OPERATION.fullmatch(path.rpartition(".")[2]) for path in scope.names.resolve_path(call.func.id))


def _iter_products(scope: Scope) -> Iterator[ast.expr]:
    yield from (node for node in scope.select_nodes(ast.BinOp) if isinstance(node.op, ast.MatMult))
    yield from (call for call in scope.select_nodes(ast.Call) if get_callee_name(call) in PRODUCTS)


def _list_softmaxes(scope: Scope) -> list[ast.Call]:
    return [call for call in scope.select_nodes(ast.Call) if "softmax" in get_callee_name(call).lower()]


def _uses_any(product: ast.expr, names: set[str], calls: Container[ast.AST]) -> bool:
    """Whether an operand is one of the names, or is computed by one of the calls."""
    return any(node in calls or (isinstance(node, ast.Name) and node.id in names) for node in ast.walk(product))


def _makes_qkv(scope: Scope) -> bool:
    """Whether q, k and v are names that the function assigns or takes, one of them assigned."""
    return attention_names.takes_qkv([*_collect_bound(scope), *scope.parameters])


def _collect_bound(scope: Scope) -> set[str]:
    """The names that a function assigns, but for those of its loops."""
    loops = {name for node in scope.select_nodes(ast.For) for name in _iter_names(node.target)}
    return {name for names, _ in get_assignments(scope) for name in names} - loops


def _iter_names(target: ast.expr) -> Iterator[str]:
    return (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _multiplies_all(scope: Scope, made: Mapping[str, set[str]]) -> bool:
    """Whether q, k and v, or what is made of each, all take part in products.

    ``made`` is `_collect_derived_by_role` of the function.
    """
    products = list(_iter_products(scope))
    if len(products) < 2:
        return False
    used = {name for product in products for name in iter_loaded_names(product, values=True)}
    return all(not used.isdisjoint(made[role]) for role in _QKV)


def _weighs_values(scope: Scope, made: Mapping[str, set[str]], softmaxes: Iterable[ast.Call]) -> bool:
    """Whether what is made of v is multiplied by a softmax of what is made of q and of k."""
    calls = {call for call in softmaxes if _depends_on(call, made["q"]) and _depends_on(call, made["k"])}
    if not calls:
        return False
    named = {name for names, value in get_assignments(scope) if _holds_call(value, calls) for name in names}
    weights = collect_derived_names(scope, named)
    pairs = [
        (node.left, node.right) for node in scope.select_nodes(ast.BinOp) if isinstance(node.op, ast.Mult | ast.MatMult)
    ]
    pairs += [
        (one, other)
        for call in _iter_products(scope)
        if isinstance(call, ast.Call)
        for one, other in _iter_operand_pairs(call)
    ]
    return any(
        (_holds_call(one, calls) or _depends_on(one, weights)) and _depends_on(other, made["v"])
        for pair in pairs
        for one, other in (pair, pair[::-1])
    )


def _collect_derived_by_role(scope: Scope) -> dict[str, set[str]]:
    """For each of q, k and v the names that hold it, or something made of it."""
    bound = {name for names, _ in get_assignments(scope) for name in names} | set(scope.parameters)
    by_role: dict[str, set[str]] = {}
    for name in bound:
        by_role.setdefault(attention_names.get_role(name) or "", set()).add(name)
    return {role: collect_derived_names(scope, by_role.get(role, ())) for role in _QKV}


def _iter_operand_pairs(call: ast.Call) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The pairs of what a call multiplies: ``einsum(text, a, b)``, ``a.matmul(b)``."""
    of_method = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    yield from combinations([*of_method, *call.args], 2)


def _depends_on(node: ast.expr, names: set[str]) -> bool:
    return not names.isdisjoint(iter_loaded_names(node, values=True))


def _holds_call(node: ast.expr, calls: Container[ast.AST]) -> bool:
    return any(inner in calls for inner in ast.walk(node))


def _passes_qkv_on(scope: Scope, made: Mapping[str, set[str]]) -> bool:
    """Whether q, k and v, or what is made of each alone, are arguments of one call."""
    alone = _collect_derived_of_one_role(made)
    for call in scope.select_nodes(ast.Call):
        given = list_arguments(call)
        names = [argument.id for argument in given if isinstance(argument, ast.Name)]
        roles = [{alone.get(name) for name in iter_loaded_names(argument, values=True)} for argument in given]
        if attention_names.takes_qkv(names) or {role for found in roles if len(found) == 1 for role in found} >= _QKV:
            return True
    return False


def _passes_each_on(scope: Scope, made: Mapping[str, set[str]]) -> bool:
    """Whether q, k and v, or what is made of each alone, are arguments of calls that give something else.

    Test-time training writes keys and values into a memory, and reads it with the queries.
    """
    alone = _collect_derived_of_one_role(made)
    flowing = collect_influencing_names(scope)
    passed: set[str] = set()
    for call in scope.select_nodes(ast.Call):
        roles = {alone[node.id] for node in call.args if isinstance(node, ast.Name) and node.id in alone}
        passed |= roles
    return passed >= _QKV and all(not flowing.isdisjoint(made[role]) for role in _QKV)


def _collect_derived_of_one_role(made: Mapping[str, set[str]]) -> dict[str, str]:
    """The names that hold something made of q, of k or of v, and of no other of the three, each with which."""
    found: dict[str, list[str]] = {}
    for role, names in made.items():
        for name in names:
            found.setdefault(name, []).append(role)
    return {name: roles[0] for name, roles in found.items() if len(roles) == 1}
