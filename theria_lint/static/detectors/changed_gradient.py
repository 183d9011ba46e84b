"""THL015: the incoming gradient of a backward, changed in place, or where the forward changes nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule
from theria_lint.static.attention_names import make_word_set
from theria_lint.static.class_lineage import find_methods_of
from theria_lint.static.dataflow import get_values, iter_target_names
from theria_lint.static.module_view import Hit, ModuleView, get_lines
from theria_lint.static.scopes import Scope, get_callee_name

# What these return may share the memory of what they are given.
_VIEWS = make_word_set(
    "view view_as reshape transpose permute squeeze unsqueeze flatten unflatten contiguous expand narrow select chunk "
    "split unbind detach movedim swapaxes rearrange to t mT"
)
# What these give without arguments, or with the receiver as the only one, is what they are called on.
_COPIES = make_word_set("view_as expand_as reshape_as type_as clone contiguous detach to alias")
# What a gradient is scaled, turned or clipped by.
_ARITHMETIC = make_word_set(
    "neg negative mul multiply div divide true_divide add sub subtract pow square sqrt rsqrt exp tanh sigmoid sign abs "
    "clamp clip clamp_min clamp_max maximum minimum max min mean sum norm amax where masked_fill nan_to_num normalize "
    "zeros_like ones_like item float"
)
# These end in an underscore and change no values.
_HARMLESS = make_word_set("requires_grad_ retain_grad_ __init__ resize_ squeeze_ unsqueeze_ transpose_ t_ swapaxes_")


def find_changed_gradients(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Changes in place of what the backwards of attention are given."""
    methods = [
        backward for owner in code.autograd_functions for backward in find_methods_of(code.index, owner, "backward")
    ]
    for backward in dict.fromkeys((*methods, *code.attention.registered_backwards)):
        gradients = _collect_views(backward, set(backward.parameters[1:]))
        for node, token in _iter_changes(backward, gradients):
            yield Hit(node, code.get_span(node), token, backward, get_lines(node), None)
    for owner in code.autograd_functions:
        forwards, backwards = (find_methods_of(code.index, owner, name) for name in ("forward", "backward"))
        if len(forwards) == len(backwards) == 1 and _is_identity(forwards[0]):
            yield from _find_other_gradients(code, backwards[0])


def _is_identity(forward: Scope) -> bool:
    """Whether a forward gives its first input back as it is: itself, a copy, or a view."""
    returned = [node.value for node in forward.select_nodes(ast.Return) if node.value is not None]
    inputs = [name for name in forward.parameters if name != "ctx"][:1]
    return bool(returned) and all(_find_copied(value) in inputs for value in returned)


def _find_copied(value: ast.expr) -> str | None:
    """The name of which an expression is a copy or a view: ``x.view_as(x)``, ``x.clone()``, ``x * 1``."""
    while not isinstance(value, ast.Name):
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult) and _is_one(value.right):
            value = value.left
        elif (
            isinstance(value, ast.Call)
            and get_callee_name(value) in _COPIES
            and isinstance(value.func, ast.Attribute)
            and all(ast.dump(given) == ast.dump(value.func.value) for given in value.args)
        ):
            value = value.func.value
        else:
            return None
    return value.id


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1


def _find_other_gradients(code: ModuleView, backward: Scope) -> Iterator[Hit]:
    """The gradients that a backward gives for its first input in the place of the incoming one."""
    incoming = set(backward.parameters[1:2])
    for node in backward.select_nodes(ast.Return):
        given = node.value.elts[0] if isinstance(node.value, ast.Tuple) and node.value.elts else node.value
        if given is None or (isinstance(given, ast.Constant) and given.value is None):
            continue
        values = get_values(backward, given.id) if isinstance(given, ast.Name) and given.id not in incoming else [given]
        changed = [
            value
            for value in values
            if _find_copied(value) is None and _find_viewed(value) is None and _is_arithmetic(value, incoming)
        ]
        for value in changed[-1:]:
            yield Hit(value, code.get_span(value), ast.unparse(value), backward, get_lines(value), None, "identity")


def _is_arithmetic(value: ast.expr, names: set[str]) -> bool:
    """Whether an expression computes with what some names hold, and by arithmetic alone: no kernel, no operator."""
    calls = (node for node in ast.walk(value) if isinstance(node, ast.Call))
    mentioned = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
    return bool(names & mentioned) and all(get_callee_name(call) in _ARITHMETIC for call in calls)


def _collect_views(backward: Scope, names: set[str]) -> set[str]:
    """The names that hold the incoming gradients, or views of them; not those that are assigned anything else."""
    assigned = [(target, node.value) for node in backward.select_nodes(ast.Assign) for target in node.targets]
    found = set(names)
    for target, value in assigned * 2:
        if _find_viewed(value) in found:
            found.update(iter_target_names(target))
    others = {
        name
        for target, value in assigned
        if isinstance(target, ast.Name | ast.Tuple) and _find_viewed(value) not in found
        for name in iter_target_names(target)
    }
    return found - others


def _find_viewed(value: ast.expr) -> str | None:
    """The name that an expression is, or is a view of."""
    while not isinstance(value, ast.Name):
        if isinstance(value, ast.Subscript | ast.Attribute | ast.Starred):
            value = value.value
        elif isinstance(value, ast.Call) and get_callee_name(value) in _VIEWS:
            value = value.func.value if isinstance(value.func, ast.Attribute) else value.func
        else:
            return None
    return value.id


def _iter_changes(backward: Scope, gradients: set[str]) -> Iterator[tuple[ast.expr, str]]:
    """The expressions that change one of some names in place, with what they say."""
    for node in backward.select_nodes(ast.AugAssign):
        if _find_viewed(node.target) in gradients:
            yield node.target, ast.unparse(node.target)
    for assignment in backward.select_nodes(ast.Assign):
        for target in assignment.targets:
            if isinstance(target, ast.Subscript) and _find_viewed(target) in gradients:
                yield target, ast.unparse(target)
    for call in backward.select_nodes(ast.Call):
        if isinstance(call.func, ast.Attribute) and _changes_receiver(call.func.attr):
            if _find_viewed(call.func.value) in gradients:
                yield call, f"{ast.unparse(call.func)}()"
        elif any(keyword.arg == "out" and _find_viewed(keyword.value) in gradients for keyword in call.keywords):
            yield call, f"{ast.unparse(call.func)}(out=...)"


def _changes_receiver(method: str) -> bool:
    return method.endswith("_") and not method.startswith("_") and method not in _HARMLESS
