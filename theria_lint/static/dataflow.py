"""Two data-flow analyses of a function: names derived from its tensors, and names its result depends on."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from theria_lint.static.attention_names import make_word_set
from theria_lint.static.scopes import (
    ModuleIndex,
    Scope,
    get_callee_name,
    get_dotted_name,
    get_self_name,
    list_arguments,
)

# So many local names are followed to what an attribute is made of: real constructors have a few.
_MOST_LOCALS = 100
PARAMETRIZING = "register_parametrization"
PRODUCTS = frozenset({"matmul", "bmm", "einsum", "baddbmm", "mm", "tensordot"})
# Softmaxes under other names.
NORMALISERS = frozenset({"sparsemax", "entmax", "entmax15", "entmax_bisect"})
# What these give is a sum over the keys, or over the edges of a node.
REDUCERS = make_word_set(
    "sum nansum cumsum scatter_add scatter_add_ index_add index_add_ scatter scatter_sum scatter_reduce "
    "scatter_reduce_ segment_sum segment_reduce einsum matmul bmm"
)
NAMED_TYPE = r"(?:[\w.]*(?:int\d*|short|long|bool)|[A-Z][A-Z\d_]*)"
"""What a type of whole numbers is called: ``torch.int32``, ``KIND``; not every name that a view is given."""

# What these give of a tensor is no tensor, or none that gradients flow through.
METADATA = make_word_set(
    "shape dtype device size dim ndim numel stride is_contiguous element_size data_ptr requires_grad layout is_cuda "
    "nbytes itemsize type get_device is_floating_point names grad_fn is_leaf storage_offset"
)
DISCRETE = make_word_set(
    "argmax argmin argsort any all nonzero eq ne lt gt le ge isnan isinf isfinite bool long int bincount unique "
    "count_nonzero searchsorted sum_mask len isinstance range id hasattr getattr"
)
# What these are given beside a tensor are sizes and positions: what they take influences no derivative.
_SHAPERS = make_word_set(
    "view reshape expand repeat permute transpose split chunk unsqueeze squeeze narrow unflatten flatten tile pad"
)
# What these are given becomes a size, or goes into a log.
_MAKERS = make_word_set(
    "arange zeros ones empty full new_zeros new_empty new_ones range linspace print debug info warning log"
)
# By these names people know the modules whose functions take a tensor first: in `torch.reshape(x, sizes)`.
_LIBRARIES = frozenset({"torch", "th", "F", "functional", "nn", "einops", "einx"})
# What these are given goes into a file that is another argument: ``torch.save(x, file)``, ``numpy.save(file, x)``.
_WRITING = frozenset({"save", "dump"})
# What these are given goes into the list that they are called on.
COLLECTING = frozenset({"append", "extend", "insert"})
# What these are given goes into the list, dictionary or layer that they are called on.
LOADING = "load_state_dict"
_FILLING = frozenset({"update", "setdefault", LOADING, *COLLECTING})
# This fills the dictionary that it is given.
STATE = "state_dict"


def iter_loaded_names(node: ast.AST, *, values: bool = False) -> Iterator[str]:
    """The names that an expression loads; with ``values`` only those whose value, not shape, it depends on."""
    stack: list[ast.AST] = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, ast.Name):
            yield current.id
        elif isinstance(current, ast.Call) and isinstance(current.func, ast.Attribute) and _is_cast(current):
            stack.append(current.func.value)
        elif _is_discrete(current):
            continue
        elif isinstance(current, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            stack.append(current.elt)  # what is run over has a name there
        elif values and isinstance(current, ast.Subscript):
            stack.append(current.value)
        elif values and isinstance(current, ast.Call) and _get_called_name(current) in _SHAPERS | _MAKERS:
            stack.append(current.func)
            stack.extend(_list_reshaped(current))
        else:
            stack.extend(ast.iter_child_nodes(current))


def _list_reshaped(call: ast.Call) -> list[ast.expr]:
    """The argument that is reshaped, where it is no receiver: of ``reshape(x, sizes)``, ``torch.reshape(x, sizes)``."""
    function = call.func
    if isinstance(function, ast.Name):
        return call.args[:1]
    if _get_called_name(call) in _MAKERS or not isinstance(function, ast.Attribute):
        return []
    owner = function.value.attr if isinstance(function.value, ast.Attribute) else function.value
    named = owner.id if isinstance(owner, ast.Name) else owner
    return call.args[:1] if named in _LIBRARIES else []


def _is_cast(call: ast.Call) -> bool:
    """Whether a call is ``x.type(dtype)``: without an argument it gives a name."""
    return bool(call.args) and _get_called_name(call) == "type"


def _is_discrete(node: ast.AST) -> bool:
    """Whether an expression gives a shape, a truth value or an index: nothing that a gradient flows through."""
    if isinstance(node, ast.Attribute):
        return node.attr in METADATA
    return isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and _get_called_name(node) in DISCRETE)


def _get_called_name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def get_assignments(scope: Scope) -> list[tuple[list[str], ast.expr]]:
    """The plain names that a function's own code binds or changes in place, each with what goes into it."""
    if scope.assigned is None:
        scope.assigned = list(_collect_assignments(scope))
    return scope.assigned


def get_values(scope: Scope, name: str) -> list[ast.expr]:
    """What a function's own code binds to a name, but for what it changes in place."""
    if scope.values is None:
        scope.values = {}
        for names, value in get_assignments(scope):
            changed = _get_changed_in_place(value) if isinstance(value, ast.Call) else None
            for bound in dict.fromkeys(names):
                if changed is None or changed.id != bound:
                    scope.values.setdefault(bound, []).append(value)
    return scope.values.get(name, [])


def collect_assigned_attributes(scope: Scope) -> dict[str, list[ast.expr]]:
    """What a class's body assigns, or what a method puts into each attribute of its instance.

    ``self.layers.append(Layer())`` puts something into one as well, and so does a parametrization of one.
    """
    table: dict[str, list[ast.expr]] = {}
    instance = get_self_name(scope)
    assigned = [(target, node.value) for node in scope.select_nodes(ast.Assign) for target in node.targets]
    pairs = [pair for target, value in assigned for pair in _pair_parts(target, value)]
    pairs += [(node.target, node.value) for node in scope.select_nodes(ast.AnnAssign) if node.value is not None]
    for target, value in pairs:
        if scope.kind == "class" and isinstance(target, ast.Name):
            table.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Attribute) and get_dotted_name(target) == f"{instance}.{target.attr}":
            table.setdefault(target.attr, []).append(value)
    for call in scope.select_nodes(ast.Call):
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if isinstance(owner, ast.Attribute) and get_dotted_name(owner) == f"{instance}.{owner.attr}":
            table.setdefault(owner.attr, []).extend(call.args)
        elif call.args and get_callee_name(call) == PARAMETRIZING:
            path = (get_dotted_name(call.args[0]) or "").split(".")
            if path[0] == instance and len(path) > 1:
                table.setdefault(path[1], []).extend(call.args[1:])
    return table


def list_values_behind(
    method: Scope, values: Iterable[ast.expr], hints: Mapping[str, list[ast.expr]]
) -> list[ast.expr]:
    """Expressions, and what a method's own code puts into the local names that they load: ``layers.append(layer)``.

    Of parameters what a caller may give, ``hints``.
    """
    found, seen = [*values], set[str]()
    for expression in found:
        for node in ast.walk(expression):
            if isinstance(node, ast.Name) and node.id not in seen:
                seen.add(node.id)
                found += (*get_values(method, node.id), *hints.get(node.id, ())) if len(seen) <= _MOST_LOCALS else ()
    return found


def _collect_assignments(scope: Scope) -> Iterator[tuple[list[str], ast.expr]]:
    for node in scope.nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _pair_bound_names(target, node.value)
        elif isinstance(node, ast.For | ast.comprehension):
            yield list(iter_target_names(node.target)), node.iter
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            yield list(iter_target_names(node.target)), node.value
        elif isinstance(node, ast.Call) and (changed := _get_changed_in_place(node)) is not None:
            yield [changed.id], node
        elif isinstance(node, ast.Call) and (filled := _get_filled(node)) is not None:
            yield from (([filled.id], argument) for argument in list_arguments(node))
        elif isinstance(node, ast.Call) and _get_called_name(node) == STATE:
            yield [given.id for given in list_arguments(node) if isinstance(given, ast.Name)], node
        elif isinstance(node, ast.Call) and _get_called_name(node) in _WRITING:
            yield from (([file.id], given) for file in node.args if isinstance(file, ast.Name) for given in node.args)


def _get_changed_in_place(call: ast.Call) -> ast.Name | None:
    """The name whose tensor a call changes: ``total.index_add_(0, index, weights)``."""
    changed = _find_changed(call)
    return changed if isinstance(changed, ast.Name) else None


def _find_changed(call: ast.Call) -> ast.expr | None:
    """What a call changes, or a chain of such calls: ``self.total.mul_(0.9).add_(weights)``."""
    changed: ast.expr = call
    while isinstance(changed, ast.Call) and isinstance(changed.func, ast.Attribute):
        if not changed.func.attr.endswith("_") or changed.func.attr.endswith("__"):
            return None
        changed = changed.func.value
    return changed if changed is not call else None


def _get_filled(call: ast.Call) -> ast.Name | None:
    """The name of the list, dictionary or layer that a call puts something into: ``parts.append(weights)``."""
    method = call.func
    if not isinstance(method, ast.Attribute) or not isinstance(method.value, ast.Name):
        return None
    return method.value if method.attr in _FILLING else None


def _pair_bound_names(target: ast.expr, value: ast.expr) -> Iterator[tuple[list[str], ast.expr]]:
    """The names of one target with what they are bound to: one by one in ``a, b = x, y``."""
    yield from ((list(iter_target_names(part)), given) for part, given in _pair_parts(target, value))


def _pair_parts(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """The parts of one target with what they are bound to: one by one in ``a, self.b = x, y``."""
    if not isinstance(target, ast.Tuple | ast.List):
        return [(target, value)]
    given = value.elts if isinstance(value, ast.Tuple | ast.List) else []
    if len(target.elts) == len(given) and not any(isinstance(part, ast.Starred) for part in (*target.elts, *given)):
        return list(zip(target.elts, given, strict=True))
    return [(part, value) for part in target.elts]


def iter_target_names(target: ast.AST) -> Iterator[str]:
    """The names that an assignment's target binds or writes into: ``x``, ``x[i]``, ``(x, *y)``."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Subscript | ast.Starred):
        yield from iter_target_names(target.value)
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from iter_target_names(element)


def collect_derived_names(scope: Scope, sources: Iterable[str]) -> set[str]:
    """The names that hold something computed from ``sources``, themselves included."""
    found = set(sources)
    _close_over(found, [(set(iter_loaded_names(value)), names) for names, value in get_assignments(scope)])
    return found


def collect_influencing_names(scope: Scope, kept: Iterable[str] = ()) -> set[str]:
    """The names whose values the function's results depend on, and what it keeps: ``kept``, of `list_kept_names`."""
    found = set(kept)
    if isinstance(scope.node, ast.Lambda):
        found.update(iter_loaded_names(scope.node.body, values=True))
    for node in scope.nodes:
        if isinstance(node, ast.Return | ast.Yield) and node.value is not None:
            found.update(iter_loaded_names(node.value, values=True))
    _close_over(found, [(names, set(iter_loaded_names(value, values=True))) for names, value in get_assignments(scope)])
    return found


def list_kept_names(index: ModuleIndex, scope: Scope, members: Mapping[str, Sequence[ast.AST]]) -> set[str]:
    """The names whose values a function puts into attributes that another statement reads: ``self.scale = scale``."""
    changes = (node for node in scope.nodes if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Call))
    statements = (index.find_statement(node) if isinstance(node, ast.Call) else node for node in changes)
    return {
        name
        for statement in dict.fromkeys(statements)
        if _is_kept(index, statement, _list_targets(statement), members)
        for name in iter_loaded_names(statement, values=True)
    }


def _is_kept(
    index: ModuleIndex, statement: ast.stmt, targets: Iterable[ast.expr], members: Mapping[str, Sequence[ast.AST]]
) -> bool:
    """Whether a statement writes into an attribute, or into an entry of one, that another statement reads."""
    kept = [whole.attr for target in targets if isinstance(whole := _get_whole(target), ast.Attribute)]
    reads = (read for name in kept for read in members.get(name, ()))
    return any(index.find_statement(read) is not statement for read in reads)


def _get_whole(target: ast.expr) -> ast.expr:
    """What a target is an entry of, or the target."""
    while isinstance(target, ast.Subscript):
        target = target.value
    return target


def _close_over(found: set[str], links: Sequence[tuple[Collection[str], Collection[str]]]) -> None:
    """Add to ``found`` what it leads to: the second names of every link that has one of its first among them."""
    leaving: dict[str, list[Collection[str]]] = {}
    for starts, ends in links:
        for name in starts:
            leaving.setdefault(name, []).append(ends)
    waiting = list(found)
    while waiting:
        for ends in leaving.pop(waiting.pop(), ()):
            fresh = [name for name in ends if name not in found]
            found.update(fresh)
            waiting += fresh


def influences_result(
    index: ModuleIndex, node: ast.expr, flowing: set[str], members: Mapping[str, Sequence[ast.AST]] | None = None
) -> bool:
    """Whether the value of an expression flows into what its function returns.

    ``flowing`` comes from `collect_influencing_names`; ``members`` says where attributes are read, by their names: what
    is put into one that another statement reads flows on too.
    """
    current: ast.AST = node
    for parent in index.iter_ancestors(node):
        if _is_dead_end(parent, current):
            return False
        if isinstance(parent, ast.Return | ast.Lambda):
            return True
        if isinstance(parent, ast.stmt):
            targets = _list_targets(parent)
            if any(name in flowing for target in targets for name in iter_target_names(target)):
                return True
            return _is_kept(index, parent, targets, members or {})
        current = parent
    return False


def _is_dead_end(parent: ast.AST, child: ast.AST) -> bool:
    """Whether ``parent`` makes a size, a position or a decision of ``child``."""
    if isinstance(parent, ast.Subscript):
        return parent.slice is child
    if isinstance(parent, ast.IfExp):
        return parent.test is child
    if isinstance(parent, ast.Call):
        called = _get_called_name(parent)
        if called in _SHAPERS and child in _list_reshaped(parent):
            return False
        return parent.func is not child and called in _SHAPERS | _MAKERS
    return isinstance(parent, ast.Compare)


def _list_written(call: ast.Call) -> list[ast.expr]:
    """What a call that is a statement writes into."""
    written = _find_changed(call) or _get_filled(call)
    if written is not None:
        return [written]
    called = _get_called_name(call)
    if called == LOADING and isinstance(call.func, ast.Attribute):
        return [call.func.value]
    return list_arguments(call) if called == STATE else []


def _list_targets(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.Assign):
        return statement.targets
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return _list_written(statement.value)
    return [statement.target] if isinstance(statement, ast.AugAssign | ast.AnnAssign | ast.For) else []
