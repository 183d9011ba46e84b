"""THL006: derivatives taken inside attention code, or in an inner loop, whose own graph is not kept."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule
from theria_lint.static.attention_names import word_set, words
from theria_lint.static.module_view import Call, Hit, ModuleCode, Place, ambiguity, lines_of
from theria_lint.static.scopes import dotted

# Functions of these names differentiate through their own gradients.
_INNER_LOOPS = word_set("inner maml adapt adaptation metalearn unroll unrolled")

_BACKWARDS = frozenset({"torch.autograd.backward"})


def find(code: ModuleCode, rule: Rule) -> Iterator[Hit]:
    """``autograd.grad`` and, in a backward, ``.backward()`` without ``create_graph=True``; re-entry after a detach.

    No rewrite makes up for ``.backward()``: it leaves its gradients in leaves, which are off the outer graph.
    """
    names = rule.names("function")
    for call in code.calls():
        yield from _reentry(code, call)
    for call in code.calls("autograd-function"):
        yield from _backward(code, call)
    for call in code.calls("anywhere"):
        if not names.isdisjoint(call.meanings) and not _keeps_graph(call.node, 4) and _is_in_reach(code, call.place):
            yield from _gradient(code, names, call)


def _is_in_reach(code: ModuleCode, place: Place) -> bool:
    """Whether a place is in attention code or in an inner loop, which differentiates what it computes again."""
    return place.scope in code.attention.active or not _INNER_LOOPS.isdisjoint(words(place.scope.name))


def _gradient(code: ModuleCode, names: frozenset[str], call: Call) -> Iterator[Hit]:
    place, node, candidates = call.place, call.node, call.meanings
    token = f"{dotted(node.func)}()"
    detail = ambiguity(names, candidates)
    yield Hit(node, code.span(node), token, place.scope, lines_of(node), "create-graph", None, detail)


def _keeps_graph(call: ast.Call, position: int) -> bool:
    """Whether ``create_graph`` is given and not plainly False, by name or at its position; ``**kwargs`` may give it."""
    for keyword in call.keywords:
        if keyword.arg is None:
            return True
        if keyword.arg == "create_graph":
            return not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
    if len(call.args) > position:
        argument = call.args[position]
        return not (isinstance(argument, ast.Constant) and not argument.value)
    return False


def _backward(code: ModuleCode, call: Call) -> Iterator[Hit]:
    place, node = call.place, call.node
    if not _BACKWARDS.isdisjoint(call.meanings) and not _keeps_graph(node, 3):
        token = f"{dotted(node.func)}()"
        yield Hit(node, code.span(node), token, place.scope, lines_of(node), None, "backward")
    elif isinstance(node.func, ast.Attribute) and node.func.attr == "backward":
        receiver = dotted(node.func.value) or ""
        is_class = receiver.rpartition(".")[2][:1].isupper() or receiver in {"self", "cls"}
        if not is_class and not call.meanings and not _keeps_graph(node, 2):
            span = code.member_span(node.func, node)
            yield Hit(node, span, ".backward()", place.scope, lines_of(node), None, "backward")


def _reentry(code: ModuleCode, call: Call) -> Iterator[Hit]:
    """``x.detach().requires_grad_()``: what is computed from it has a graph that ends there."""
    place, node = call.place, call.node
    if not _is_method(node, "requires_grad_"):
        return
    current: ast.expr = node
    while isinstance(current, ast.Call) and isinstance(current.func, ast.Attribute):
        if current.func.attr == "detach":
            span = code.member_span(current.func, current)
            token = ".detach().requires_grad_()"
            yield Hit(current, span, token, place.scope, lines_of(current), "drop-call", "reentry")
            return
        current = current.func.value


def _is_method(call: ast.Call, name: str) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == name
