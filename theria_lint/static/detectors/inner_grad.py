"""THL006: derivatives taken in attention code or in an inner loop without create_graph."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule
from theria_lint.static.attention_names import make_word_set, split_words
from theria_lint.static.dataflow import collect_influencing_names, influences_result
from theria_lint.static.gradient_calls import takes_gradients
from theria_lint.static.module_view import CodeSite, Hit, ModuleView, ResolvedCall, get_lines, list_meanings
from theria_lint.static.scopes import Scope, get_dotted_name

# Functions of these names differentiate through their own gradients.
_INNER_LOOPS = make_word_set("inner maml adapt adaptation metalearn unroll unrolled")

_FUNCTIONAL = ".functional."
_WHOLE_MATRICES = frozenset({"jacobian", "hessian"})
_FINISHED = frozenset({"detach", "data"})
_BACKWARDS = frozenset({"torch.autograd.backward"})


def find_inner_gradients(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """``autograd.grad`` and, in a backward, ``.backward()`` without ``create_graph=True``; re-entry after a detach.

    ``.backward()`` leaves its gradients in leaves, which are off the outer graph: outside an autograd.Function, where
    they are read back, the two together become a call of ``autograd.grad``.
    """
    names = rule.collect_names("function")
    for call in code.find_calls():
        yield from _find_reentry(code, call)
    for call in code.find_calls("autograd-function"):
        yield from _find_backward_calls(code, call, None)
    yield from _find_descents(code)
    for call in code.find_calls("anywhere"):
        if (
            not names.isdisjoint(call.meanings)
            and not any(_keeps_graph(call.node, _get_position(name)) for name in call.meanings)
            and _is_in_attention_or_loop(code, call.site)
        ):
            yield from _make_gradient_hit(code, names, call)


def _is_in_attention_or_loop(code: ModuleView, site: CodeSite) -> bool:
    """Whether a place is in attention code or in an inner loop, which differentiates what it computes again."""
    return site.scope in code.attention.active or not _INNER_LOOPS.isdisjoint(split_words(site.scope.name))


def _make_gradient_hit(code: ModuleView, names: frozenset[str], call: ResolvedCall) -> Iterator[Hit]:
    site, node, candidates = call.site, call.node, call.meanings
    token = f"{get_dotted_name(node.func)}()"
    detail = list_meanings(names, candidates)
    yield Hit(node, code.get_span(node), token, site.scope, get_lines(node), "create-graph", None, detail)


def _get_position(name: str) -> int:
    """Where ``create_graph`` stands among what a function is given by position."""
    last = name.rpartition(".")[2]
    return 2 if last in _WHOLE_MATRICES else 3 if _FUNCTIONAL in name else 4


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


def _find_descents(code: ModuleView) -> Iterator[Hit]:
    """``loss.backward()`` in a function that then computes with the ``.grad`` of a tensor."""
    functions = {scope for owner in code.autograd_functions for scope in owner.children}
    for scope in code.active:
        if scope in functions or not takes_gradients(scope):
            continue
        calls = [call for call in code.find_calls() if call.site.scope is scope and not call.site.in_header]
        backwards = [hit for call in calls for hit in _find_backward_calls(code, call, "keep-loss")]
        read = [_make_leaf_hit(code, scope, node) for node in _iter_used_gradients(code, scope)] if backwards else []
        yield from (*backwards, *read) if read else ()


def _iter_used_gradients(code: ModuleView, scope: Scope) -> Iterator[ast.Attribute]:
    """The reads of ``.grad`` that a function's result depends on, but for those that its author detaches."""
    flowing = collect_influencing_names(scope)
    for node in scope.select_nodes(ast.Attribute):
        if node.attr == "grad" and isinstance(node.ctx, ast.Load) and influences_result(code.index, node, flowing):
            parent = code.index.parents.get(node)
            if not (isinstance(parent, ast.Attribute) and parent.attr in _FINISHED):
                yield node


def _make_leaf_hit(code: ModuleView, scope: Scope, node: ast.Attribute) -> Hit:
    return Hit(node, code.get_member_span(node, node), ".grad", scope, get_lines(node), "kept-loss", "leaf")


def _find_backward_calls(code: ModuleView, call: ResolvedCall, neutraliser: str | None) -> Iterator[Hit]:
    site, node = call.site, call.node
    if not _BACKWARDS.isdisjoint(call.meanings) and not _keeps_graph(node, 3):
        token = f"{get_dotted_name(node.func)}()"
        yield Hit(node, code.get_span(node), token, site.scope, get_lines(node), None, "backward")
    elif isinstance(node.func, ast.Attribute) and node.func.attr == "backward":
        receiver = get_dotted_name(node.func.value) or ""
        is_class = receiver.rpartition(".")[2][:1].isupper() or receiver in {"self", "cls"}
        if not is_class and not call.meanings and not _keeps_graph(node, 2):
            span = code.get_member_span(node.func, node)
            yield Hit(node, span, ".backward()", site.scope, get_lines(node), neutraliser, "backward")


def _find_reentry(code: ModuleView, call: ResolvedCall) -> Iterator[Hit]:
    """``x.detach().requires_grad_()``: what is computed from it has a graph that ends there."""
    site, node = call.site, call.node
    if not (isinstance(node.func, ast.Attribute) and node.func.attr == "requires_grad_"):
        return
    current: ast.expr = node
    while isinstance(current, ast.Call) and isinstance(current.func, ast.Attribute):
        if current.func.attr == "detach":
            span = code.get_member_span(current.func, current)
            token = ".detach().requires_grad_()"
            yield Hit(current, span, token, site.scope, get_lines(current), "drop-call", "reentry")
            return
        current = current.func.value
