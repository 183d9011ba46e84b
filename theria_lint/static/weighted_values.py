"""Recognise attention without products of queries and keys: a softmax, or exp over its sum, that weighs values."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from itertools import combinations

from theria_lint.static import attention_names
from theria_lint.static.dataflow import (
    NORMALISERS,
    PRODUCTS,
    REDUCERS,
    collect_derived_names,
    collect_influencing_names,
    get_assignments,
    get_values,
    influences_result,
    iter_loaded_names,
)
from theria_lint.static.scopes import ModuleIndex, Scope, get_callee_name, get_self_name

_PRODUCTS = PRODUCTS | {"mul", "multiply", "mul_"}
_EXPONENTIALS = frozenset({"exp", "exp_", "exp2"})
# What chooses or scores weighs no values: the words of functions, of classes and of what a softmax is taken of.
_CHOICES = attention_names.make_word_set(
    "loss losses entropy ce router routers routing gate gates gating expert experts moe sample sampler generate focal "
    "distill distillation kl policy actor critic categorical mixture quantize quantizer codebook vq nll likelihood "
    "crf beam"
)


# Of these the words of what also attends, where it compares things with one another: gated graph attention.
_GATES = frozenset({"gate", "gates", "gating"})
_NEIGHBOURS = attention_names.make_word_set(
    "adj adjacency edge edges neighbor neighbors neighbour neighbours neighbourhood src dst"
)
_TRANSPOSED = frozenset({"transpose", "mT", "T", "swapaxes"})
# Beside these, the words of functions and classes that measure.
_MEASURES = _CHOICES | {"score", "scores", "confidence"}


def weighs_values(index: ModuleIndex, scope: Scope) -> bool:
    """Whether a function multiplies what it computes of its arguments by normalised scores of them, and returns that.

    The scores are normalised by a softmax under any name, or by an exponential over a sum of it.
    """
    if _is_choice(scope):
        return False
    pairs = _compares_pairs(scope)
    normalised = {call for call in scope.select_nodes(ast.Call) if _is_softmax(call) and not _chooses(call, pairs)}
    exponentials = {call for call in scope.select_nodes(ast.Call) if get_callee_name(call) in _EXPONENTIALS}
    if not normalised and not exponentials:
        return False
    given = [name for name in scope.parameters if name != get_self_name(scope)]
    tensors = collect_derived_names(scope, given)
    normalised = {call for call in normalised if _loads_any(call, tensors)}
    if exponentials and _divides_by_sum(scope, exponentials):
        normalised |= {call for call in exponentials if _loads_any(call, tensors)}
    if not normalised:
        return False
    scored = {ast.dump(part) for call in normalised for part in _iter_operands(call)}
    weights = _collect_names_of(scope, normalised)
    flowing = collect_influencing_names(scope)
    return any(
        _is_value(other, tensors, weights, normalised) and influences_result(index, product, flowing)
        for product, one, other in _iter_products(scope)
        if _uses(one, weights, normalised) and ast.dump(other) not in scored
    )


def _is_choice(scope: Scope) -> bool:
    """Whether the names of a function and its class say that it chooses or scores."""
    owner = scope.find_enclosing("class")
    named = attention_names.split_words(scope.name)
    if owner is not None and not attention_names.names_attention(owner.name):
        named += attention_names.split_words(owner.name)
    said = _MEASURES.intersection(named)
    return bool(said) and not (said <= _GATES and _compares_pairs(scope))


def _compares_pairs(scope: Scope) -> bool:
    """Whether a function compares things with one another: what a softmax takes is transposed, or along edges."""
    if any(not _NEIGHBOURS.isdisjoint(attention_names.split_words(name)) for name in scope.parameters):
        return True
    softmaxes = [call for call in scope.select_nodes(ast.Call) if _is_softmax(call)]
    taken = [value for call in softmaxes for name in iter_loaded_names(call) for value in get_values(scope, name)]
    nodes = (node for part in (*softmaxes, *taken) for node in ast.walk(part))
    return any(isinstance(node, ast.Attribute) and node.attr in _TRANSPOSED for node in nodes)


def _chooses(call: ast.Call, pairs: bool) -> bool:
    """Whether a softmax is taken of what is named after a choice: ``softmax(self.gate(x))``, not of pairs of things."""
    names = [node.id for node in ast.walk(call) if isinstance(node, ast.Name)]
    names += [node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)]
    words = _CHOICES - _GATES if pairs else _CHOICES
    return any(not words.isdisjoint(attention_names.split_words(name)) for name in names)


def _is_softmax(call: ast.Call) -> bool:
    name = get_callee_name(call).lower()
    return ("softmax" in name and not name.startswith(("log", "gumbel"))) or name in NORMALISERS


def _divides_by_sum(scope: Scope, exponentials: Container[ast.AST]) -> bool:
    """Whether something made of an exponential is divided by a sum of what is made of it."""
    made = _collect_names_of(scope, exponentials)
    sums = {
        call
        for call in scope.select_nodes(ast.Call)
        if get_callee_name(call) in REDUCERS and _uses(call, made, exponentials)
    }
    summed = _collect_names_of(scope, sums)
    return any(
        isinstance(node.op, ast.Div) and _uses(node.left, made, exponentials) and _uses(node.right, summed, sums)
        for node in scope.select_nodes(ast.BinOp)
    )


def _collect_names_of(scope: Scope, calls: Container[ast.AST]) -> set[str]:
    """The names that hold what calls return, or something computed from it."""
    named = {
        name
        for names, value in get_assignments(scope)
        if any(node in calls for node in ast.walk(value))
        for name in names
    }
    return collect_derived_names(scope, named) if named else named


def _uses(node: ast.expr, names: set[str], calls: Container[ast.AST]) -> bool:
    return any(inner in calls for inner in ast.walk(node)) or _loads_any(node, names)


def _loads_any(node: ast.expr, names: set[str]) -> bool:
    return not names.isdisjoint(iter_loaded_names(node, values=True))


def _is_value(node: ast.expr, tensors: set[str], weights: set[str], normalised: Container[ast.AST]) -> bool:
    """Whether an operand is computed from the function's tensors, and not from the weights: no entropy, no log."""
    return not _uses(node, weights, normalised) and any(
        name in tensors and not attention_names.is_size_name(name) for name in iter_loaded_names(node, values=True)
    )


def _iter_operands(call: ast.Call) -> Iterator[ast.expr]:
    """What a softmax is taken of: a product with just this weighs nothing, it is an activation."""
    yield from call.args[:1]
    if isinstance(call.func, ast.Attribute):
        yield call.func.value


def _iter_products(scope: Scope) -> Iterator[tuple[ast.expr, ast.expr, ast.expr]]:
    """Each product with its operands, either way round."""
    for node in scope.select_nodes(ast.BinOp):
        if isinstance(node.op, ast.Mult | ast.MatMult):
            yield node, node.left, node.right
            yield node, node.right, node.left
    for call in scope.select_nodes(ast.Call):
        if get_callee_name(call) in _PRODUCTS:
            of_method = [call.func.value] if isinstance(call.func, ast.Attribute) else []
            for one, other in combinations([*of_method, *call.args], 2):
                yield call, one, other
                yield call, other, one
