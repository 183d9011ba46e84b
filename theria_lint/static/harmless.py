"""Tell suspects that are harmless as a rule, by how their value is used: these are notes, or are not reported."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping

from theria_lint.static import attention_names
from theria_lint.static.attention_names import make_word_set
from theria_lint.static.class_lineage import get_lineage
from theria_lint.static.dataflow import DISCRETE, collect_derived_names, get_values, iter_loaded_names
from theria_lint.static.module_view import Hit, ModuleView
from theria_lint.static.scopes import Scope, get_callee_name, get_dotted_name, get_self_name

_MAXIMA = frozenset({"amax", "max"})
# The larger of two, as a row maximum that is kept over blocks of keys.
_RUNNING = frozenset({"maximum", "fmax", "max"})
# What shifts by a maximum divides it out again: a softmax, or an exponential in a quotient or a logarithm.
_EXPONENTIALS = frozenset({"exp", "exp_", "exp2"})
_QUOTIENTS = frozenset({"log", "log2", "div", "div_", "reciprocal", "true_divide", "logsumexp"})
_LOGS = make_word_set("print logger logging log writer wandb warnings tensorboard tb")
_LOGGING = make_word_set("info debug warning error log log_dict print add_scalar add_scalars add_histogram add_image")
_STORING = frozenset({"append", "extend", "update", "setdefault"})


def find_harm(code: ModuleView, hit: Hit, kinds: Iterable[str]) -> str | None:
    """What becomes of a suspect: "none" if it is not reported, "note" if it is a note, None where it may do harm."""
    if hit.scope.kind != "function":
        return None
    return next((what for kind in kinds for what, holds in [_KINDS[kind]] if holds(code, hit)), None)


def _climb_chain(code: ModuleView, node: ast.AST) -> ast.AST:
    """The whole of a chain of members, calls and subscripts that is taken of an expression: ``x.detach().cpu()[0]``."""
    while True:
        parent = code.index.parents.get(node)
        is_receiver = isinstance(parent, ast.Attribute | ast.Subscript) and parent.value is node
        if not is_receiver and not (isinstance(parent, ast.Call) and parent.func is node):
            return node
        assert parent is not None
        node = parent


def _is_row_maximum(code: ModuleView, hit: Hit) -> bool:
    """Whether what is cut is a maximum that is subtracted, and that the result does not depend on."""
    if not code.ask(_normalises, hit.scope) and not code.ask_within(_is_normalised_by_callers, hit.scope):
        return False
    block = _get_block(code, hit.node)
    if block is not None:
        return _holds_maxima(code, hit.scope, block)
    whole = _climb_chain(code, hit.node)
    return _takes_maximum(hit.scope, whole) and _is_shift(code, hit.scope, whole)


def _normalises(scope: Scope) -> bool:
    """Whether a function takes a softmax, or divides an exponential or takes its logarithm."""
    called = {get_callee_name(call) for call in scope.select_nodes(ast.Call)}
    if any("softmax" in name.lower() for name in called):
        return True
    operators = [node.op for node in scope.select_nodes(ast.BinOp)]
    operators += [node.op for node in scope.select_nodes(ast.AugAssign)]
    divides = any(isinstance(operator, ast.Div) for operator in operators) or not called.isdisjoint(_QUOTIENTS)
    return divides and not called.isdisjoint(_EXPONENTIALS)


def _is_normalised_by_callers(code: ModuleView, scope: Scope) -> bool:
    """Whether all functions of the file that name a function, one at least, divide out what it shifts by."""
    callers = [caller for caller in code.attention.find_naming(scope) if caller in code.attention.active]
    return bool(callers) and all(code.ask(_normalises, caller) for caller in callers)


def _get_block(code: ModuleView, node: ast.AST) -> list[ast.stmt] | None:
    """The statements under the switch that a node throws; None for what is no ``with`` of its own."""
    item = code.index.parents.get(node)
    block = code.index.parents.get(item) if isinstance(item, ast.withitem) else None
    return block.body if isinstance(block, ast.With) else None


def _holds_maxima(code: ModuleView, scope: Scope, block: list[ast.stmt]) -> bool:
    """Whether some statements only give names to maxima that are then subtracted."""
    return all(
        isinstance(statement, ast.Assign)
        and _takes_maximum(scope, statement.value)
        and all(_is_name_of_shift(code, scope, target) for target in statement.targets)
        for statement in block
    )


def _takes_maximum(scope: Scope, node: ast.AST, seen: frozenset[str] = frozenset()) -> bool:
    """Whether an expression is a maximum, or members of one, or a name that holds one."""
    while True:
        if isinstance(node, ast.Call):
            if get_callee_name(node) in _MAXIMA:
                return True
            if get_callee_name(node) in _RUNNING and any(_takes_maximum(scope, part, seen) for part in node.args):
                return True
            node = node.args[0] if get_callee_name(node) == "detach" and node.args else node.func
        elif isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        else:
            break
    if not isinstance(node, ast.Name) or node.id in seen:
        return False
    values = get_values(scope, node.id)
    return bool(values) and all(_takes_maximum(scope, value, seen | {node.id}) for value in values)


def _is_shift(code: ModuleView, scope: Scope, node: ast.AST, seen: frozenset[str] = frozenset()) -> bool:
    """Whether an expression is subtracted, added back or compared, at once or by the name that it is given."""
    parent = code.index.parents.get(node)
    if isinstance(parent, ast.BinOp):
        return isinstance(parent.op, ast.Sub | ast.Add)
    if isinstance(parent, ast.AugAssign):
        return isinstance(parent.op, ast.Sub | ast.Add) and parent.value is node
    if isinstance(parent, ast.Call) and get_callee_name(parent) in _RUNNING and parent.func is not node:
        return _is_shift(code, scope, _climb_chain(code, parent), seen)
    if isinstance(parent, ast.Call):
        return get_callee_name(parent) in ("sub", "sub_", "isinf", "isfinite", "where") and parent.func is not node
    if isinstance(parent, ast.Assign):
        return all(_is_name_of_shift(code, scope, target, seen) for target in parent.targets)
    if isinstance(parent, ast.Tuple) and isinstance(node, ast.expr):
        targets = _find_targets_of(code.index.parents.get(parent), parent.elts.index(node))
        return bool(targets) and all(_is_name_of_shift(code, scope, target, seen) for target in targets)
    return isinstance(parent, ast.Compare)


def _find_targets_of(statement: ast.AST | None, place: int) -> list[ast.expr]:
    """What an assignment of a tuple to tuples gives the names to, of the element at one place."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Tuple):
        return []
    count = len(statement.value.elts)
    tuples = [target for target in statement.targets if isinstance(target, ast.Tuple) and len(target.elts) == count]
    return [target.elts[place] for target in tuples] if len(tuples) == len(statement.targets) else []


def _is_name_of_shift(code: ModuleView, scope: Scope, target: ast.expr, seen: frozenset[str] = frozenset()) -> bool:
    """Whether all reads of a name are shifts; one that is being looked at, by way of others, is taken for one."""
    if isinstance(target, ast.Tuple):
        return all(_is_name_of_shift(code, scope, part, seen) for part in target.elts)
    if not isinstance(target, ast.Name):
        return False
    if target.id in seen:
        return True
    seen |= {target.id}
    reads = code.ask(_index_reads, scope).get(target.id, ())
    return all(_is_shift(code, scope, _climb_chain(code, node), seen) for node in reads)


def _index_reads(scope: Scope) -> dict[str, list[ast.Name]]:
    """Where a function reads each name."""
    table: dict[str, list[ast.Name]] = {}
    for node in scope.select_nodes(ast.Name):
        if isinstance(node.ctx, ast.Load):
            table.setdefault(node.id, []).append(node)
    return table


def _is_logged(code: ModuleView, hit: Hit) -> bool:
    """Whether a value only goes into a log."""
    statement = code.index.find_statement(hit.node)
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    path = (get_dotted_name(statement.value.func) or "").split(".")
    return not _LOGS.isdisjoint(path[:-1]) or path[-1] in _LOGGING or path == ["print"]


def _is_kept_aside(code: ModuleView, hit: Hit) -> bool:
    """Whether a value only goes into an attribute that no attention code reads."""
    instance = get_self_name(hit.scope)
    statement = code.index.find_statement(hit.node)
    kept: list[str | None] = []
    if isinstance(statement, ast.Assign):
        kept = [_get_attribute(target, instance) for target in statement.targets]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        callee = statement.value.func
        if isinstance(callee, ast.Attribute) and callee.attr in _STORING:
            kept = [_get_attribute(callee.value, instance)]
    return bool(kept) and all(name is not None and not _is_read(code, name, statement) for name in kept)


def _get_attribute(target: ast.expr, instance: str | None) -> str | None:
    """The attribute of the instance that a target is, or is an entry of."""
    while isinstance(target, ast.Subscript):
        target = target.value
    is_own = isinstance(target, ast.Attribute) and get_dotted_name(target) == f"{instance}.{target.attr}"
    return target.attr if is_own and isinstance(target, ast.Attribute) else None


def _is_read(code: ModuleView, name: str, statement: ast.stmt) -> bool:
    """Whether attention code reads an attribute of this name, but in one statement."""
    return any(code.index.find_statement(node) is not statement for node in code.member_reads.get(name, ()))


def _is_handed_out(code: ModuleView, hit: Hit) -> bool:
    """Whether a value only leaves the function beside its result, as it is: its author takes it off the graph."""
    return _leaves_beside(code, hit.scope, _climb_chain(code, hit.node))


def _leaves_beside(code: ModuleView, scope: Scope, node: ast.AST) -> bool:
    outer, beside = _climb_choices(code, node)
    if isinstance(outer, ast.Return):
        return beside
    if not isinstance(outer, ast.Assign) or not all(isinstance(target, ast.Name) for target in outer.targets):
        return False
    names = {target.id for target in outer.targets if isinstance(target, ast.Name)}
    reads = [one for name in names for one in code.ask(_index_reads, scope).get(name, ())]
    places = (_climb_choices(code, one) for one in reads)
    return bool(reads) and all(isinstance(place, ast.Return) and beside for place, beside in places)


def _climb_choices(code: ModuleView, node: ast.AST) -> tuple[ast.AST | None, bool]:
    """What is around the tuples and choices that hold a node, and whether it stands behind the first of a tuple."""
    parent, beside = code.index.parents.get(node), False
    while isinstance(parent, ast.Tuple) or (isinstance(parent, ast.IfExp) and parent.test is not node):
        beside = beside or (isinstance(parent, ast.Tuple) and parent.elts[0] is not node)
        node, parent = parent, code.index.parents.get(parent)
    return parent, beside


def _is_discrete(code: ModuleView, hit: Hit) -> bool:
    """Whether a value only becomes a truth value, an index or a size."""
    whole = _climb_chain(code, hit.node)
    parent = code.index.parents.get(whole)
    if isinstance(parent, ast.Compare) or (
        isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Invert | ast.Not)
    ):
        return True
    node: ast.AST = whole
    while node is not hit.node and isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Call) and get_callee_name(node) in DISCRETE:
            return True
        node = node.func if isinstance(node, ast.Call) else node.value
    return False


def _is_of_sizes(code: ModuleView, hit: Hit) -> bool:
    """Whether all that runs under a switch depends on sizes and buffers alone, and changes nothing."""
    scope = hit.scope
    block = _get_block(code, hit.node)
    if block is None and hit.neutraliser == "drop-decorator":
        block = scope.function.body
    if block is None:
        return False
    instance = get_self_name(scope)
    tensors = code.ask(_collect_tensors, scope)
    nodes = [node for statement in block for node in ast.walk(statement)]
    loaded = {name for statement in block for name in iter_loaded_names(statement, values=True)}
    if not tensors.isdisjoint(loaded) or any(map(_changes_in_place, nodes)):
        return False
    members = {node.attr for node in nodes if isinstance(node, ast.Attribute) and _is_member(node, instance)}
    return members <= code.ask_within(_collect_buffers, scope)


_AVERAGING = frozenset({"mul_", "lerp_"})


def _is_moving_average(code: ModuleView, hit: Hit) -> bool:
    """Whether all that a function does stands under a switch, and moves queries, keys or values towards something.

    What it returns is nothing, or what it has moved: that is the upkeep of a queue or a codebook, and no attention.
    """
    block = _get_block(code, hit.node)
    if block is None:
        return False
    work = code.ask(_list_work, hit.scope)
    if len(work) != 1 or not _stands_in(code, block[0], work[0]):
        return False
    roots = {_get_root(node) for one in block for node in ast.walk(one) if _moves_on(node)}
    returned = [one.value for one in code.ask(_list_returns, hit.scope) if one.value is not None]
    return (
        bool(roots)
        and all(name is not None and attention_names.get_role(name) for name in roots)
        and all(isinstance(value, ast.Name) and value.id in roots for value in returned)
    )


def _list_work(scope: Scope) -> list[ast.stmt]:
    """The statements of a function's body but docstrings and those that return."""
    return [one for one in scope.function.body if not isinstance(one, ast.Return) and not _is_docstring(one)]


def _list_returns(scope: Scope) -> list[ast.Return]:
    return [one for one in scope.function.body if isinstance(one, ast.Return)]


def _stands_in(code: ModuleView, node: ast.AST, statement: ast.stmt) -> bool:
    """Whether a statement holds a node."""
    found: ast.AST | None = node
    while found is not None and found is not statement:
        found = code.index.parents.get(found)
    return found is statement


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _moves_on(node: ast.AST) -> bool:
    """Whether a node changes a tensor in place."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and get_callee_name(node).endswith("_")


def _get_root(node: ast.AST) -> str | None:
    """The name of what a chain of changes averages in place: ``k`` of ``k.mul_(0.9).add_(new)``; None for another."""
    called = []
    while isinstance(node, ast.Call | ast.Attribute):
        if isinstance(node, ast.Call):
            called.append(get_callee_name(node))
            node = node.func
        else:
            node = node.value
    return node.id if isinstance(node, ast.Name) and called and called[-1] in _AVERAGING else None


def _collect_tensors(scope: Scope) -> set[str]:
    """The names that hold something computed from what a function is given, sizes apart."""
    instance = get_self_name(scope)
    given = [name for name in scope.parameters if name != instance and not attention_names.is_size_name(name)]
    return collect_derived_names(scope, given)


def _changes_in_place(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and get_callee_name(node).endswith("_")


def _is_member(node: ast.Attribute, instance: str | None) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == instance


def _collect_buffers(code: ModuleView, scope: Scope) -> set[str]:
    """The attributes that the classes of a method register as buffers."""
    owner = scope.find_enclosing("class")
    line = get_lineage(code.index, owner) if owner is not None else []
    methods = [child for ancestor in line for child in ancestor.children]
    calls = [call for method in methods for call in method.select_nodes(ast.Call)]
    registered = [call.args[0] for call in calls if get_callee_name(call) == "register_buffer" and call.args]
    return {name.value for name in registered if isinstance(name, ast.Constant) and isinstance(name.value, str)}


_KINDS: Mapping[str, tuple[str, Callable[[ModuleView, Hit], bool]]] = {
    "logged": ("none", _is_logged),
    "discrete": ("none", _is_discrete),
    "kept-aside": ("none", _is_kept_aside),
    "row-maximum": ("note", _is_row_maximum),
    "handed-out": ("note", _is_handed_out),
    "sizes": ("note", _is_of_sizes),
    "moving-average": ("note", _is_moving_average),
}
