"""THL016: backwards that give None for an input that carries a gradient."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule
from theria_lint.static.attention_names import is_size_name, make_word_set
from theria_lint.static.class_lineage import find_methods_of
from theria_lint.static.dataflow import collect_influencing_names, get_values, iter_loaded_names
from theria_lint.static.function_inputs import find_tensors, list_own_parameters
from theria_lint.static.module_view import Hit, ModuleView, get_lines
from theria_lint.static.scopes import Scope, get_callee_name

# Their arguments say which elements are taken: no derivative flows through those.
_SELECTIONS = make_word_set(
    "gather scatter scatter_ scatter_add scatter_add_ scatter_reduce index_select index_add index_add_ index_copy take "
    "take_along_dim embedding masked_fill masked_fill_ masked_select where cross_entropy nll_loss one_hot bincount"
)


def find_dropped_gradients(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Each None that a backward gives, however it returns, for a tensor that the result is computed from."""
    for owner in code.autograd_functions:
        forwards, backwards = (find_methods_of(code.index, owner, name) for name in ("forward", "backward"))
        if len(forwards) == len(backwards) == 1 and backwards[0].parent is owner:
            context = 0 if find_methods_of(code.index, owner, "setup_context") else 1
            yield from _find_in_backward(code, forwards[0], list_own_parameters(forwards[0])[context:], backwards[0])


def _find_in_backward(code: ModuleView, forward: Scope, inputs: tuple[str, ...], backward: Scope) -> Iterator[Hit]:
    returned = [_list_gradients(node.value) for node in backward.select_nodes(ast.Return)]
    if not returned or any(len(gradients) < 2 for gradients in returned):
        return
    carrying = _find_carrying_inputs(forward, inputs)
    for place, name in enumerate(inputs):
        given = [gradients[place] if place < len(gradients) else None for gradients in returned]
        dropped = [value for value in given if value is not None and _is_none(backward, value)]
        if name in carrying and len(dropped) == len(given):
            last = dropped[-1]
            yield Hit(last, code.get_span(last), "None", backward, get_lines(last), None, detail=name)


def _list_gradients(value: ast.expr | None) -> list[ast.expr]:
    """The gradients that a return gives one by one; nothing where they cannot be told apart."""
    if not isinstance(value, ast.Tuple) or any(isinstance(part, ast.Starred) for part in value.elts):
        return []
    return value.elts


def _is_none(backward: Scope, value: ast.expr) -> bool:
    """Whether an expression is None, or a name that never holds anything else."""
    if isinstance(value, ast.Name):
        values = get_values(backward, value.id)
        return bool(values) and all(isinstance(held, ast.Constant) and held.value is None for held in values)
    return isinstance(value, ast.Constant) and value.value is None


def _find_carrying_inputs(forward: Scope, inputs: tuple[str, ...]) -> set[str]:
    """The inputs that are tensors of numbers, and flow into the result."""
    chosen = {name for call in forward.select_nodes(ast.Call) for name in _iter_choosing_names(call)}
    flowing = collect_influencing_names(forward) - chosen
    return {name for name in find_tensors(forward, inputs) if name in flowing and not is_size_name(name)}


def _iter_choosing_names(call: ast.Call) -> Iterator[str]:
    """The names that a call is given to choose elements by."""
    if get_callee_name(call) in _SELECTIONS:
        for argument in call.args:
            yield from iter_loaded_names(argument)
