"""Tell which expressions hold what a module learns: its parameters, and what its submodules compute."""

from __future__ import annotations

import ast

from theria_lint.static.class_lineage import find_methods_of, get_lineage
from theria_lint.static.dataflow import METADATA, collect_derived_names, get_assignments, get_values, iter_loaded_names
from theria_lint.static.scopes import ModuleIndex, Scope, get_callee_name, get_dotted_name, get_self_name

_PARAMETER = "Parameter"
# The parameters that the modules of PyTorch have.
_WEIGHTS = frozenset({"weight", "bias", "in_proj_weight", "in_proj_bias"})
# By these a module hands out its submodules.
_SUBMODULES = frozenset({"get_submodule", "children", "named_children", "modules", "named_modules"})


def collect_learned_names(index: ModuleIndex, scope: Scope) -> set[str]:
    """The names to which a method gives something that its instance learns, or that its submodules compute."""
    return {name for names, value in get_assignments(scope) if loads_learned(index, scope, value) for name in names}


def loads_learned(index: ModuleIndex, scope: Scope, value: ast.expr, *, follow: bool = True) -> bool:
    """Whether the value of an expression depends on parameters of the instance, by names that its class assigns.

    With ``follow`` also by a method of the instance that gives such a value.
    """
    instance, owner = get_self_name(scope), scope.find_enclosing("class")
    if instance is None or owner is None:
        return False
    stack: list[ast.AST] = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Attribute) and node.attr in METADATA:
            continue
        if isinstance(node, ast.Call | ast.Attribute) and _is_learned(index, owner, node, instance):
            return True
        if follow and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            methods = find_methods_of(index, owner, node.func.attr) if _is_member(node.func, instance) else []
            if any(_returns_learned(index, method) for method in methods):
                return True
        stack.extend(ast.iter_child_nodes(node))
    return False


def is_learned_module(index: ModuleIndex, scope: Scope, node: ast.expr, seen: frozenset[str] = frozenset()) -> bool:
    """Whether an expression is the instance, a submodule or a parameter of it, or a name that is given to one.

    What ``self.layers`` was made as tells of its entries and members too: ``self.layers[0].weight``.
    """
    instance, owner = get_self_name(scope), scope.find_enclosing("class")
    if instance is None or owner is None:
        return False
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute) and _is_member(node, instance):
            return node.attr in _SUBMODULES or node.attr in _collect_made(index, owner)
        if not isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
            return False
        node = node.func if isinstance(node, ast.Call) else node.value
    if node.id == instance or node.id in seen:
        return node.id == instance
    return any(is_learned_module(index, scope, value, seen | {node.id}) for value in get_values(scope, node.id))


def _returns_learned(index: ModuleIndex, method: Scope) -> bool:
    """Whether what a method gives back depends on parameters of its instance, as far as its own code tells."""
    learned = {
        name
        for names, value in get_assignments(method)
        if loads_learned(index, method, value, follow=False)
        for name in names
    }
    named = collect_derived_names(method, learned)
    returned = [node.value for node in method.select_nodes(ast.Return) if node.value is not None]
    return any(
        not named.isdisjoint(iter_loaded_names(value)) or loads_learned(index, method, value, follow=False)
        for value in returned
    )


def _is_learned(index: ModuleIndex, owner: Scope, node: ast.Call | ast.Attribute, instance: str) -> bool:
    """Whether a node is a parameter of an instance, a weight of a submodule, or a call that computes of either."""
    if isinstance(node, ast.Attribute) and node.attr in _WEIGHTS and isinstance(node.value, ast.Attribute):
        return _is_member(node.value, instance) and node.value.attr in _collect_made(index, owner)
    member = node.func if isinstance(node, ast.Call) else node
    if not isinstance(member, ast.Attribute) or not _is_member(member, instance):
        return False
    kind = _collect_made(index, owner).get(member.attr)
    return kind == _PARAMETER if isinstance(node, ast.Attribute) else kind not in (None, _PARAMETER)


def _is_member(node: ast.Attribute, instance: str) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == instance


def _collect_made(index: ModuleIndex, owner: Scope) -> dict[str, str]:
    """What the methods of a class put into attributes: a parameter, or an instance of a class of some name."""
    made: dict[str, str] = {}
    for ancestor in get_lineage(index, owner):
        for method in ancestor.children:
            instance = get_self_name(method)
            for node in method.select_nodes(ast.Assign):
                kind = get_callee_name(node.value) if isinstance(node.value, ast.Call) else ""
                for target in node.targets if kind[:1].isupper() else ():
                    if isinstance(target, ast.Attribute) and get_dotted_name(target) == f"{instance}.{target.attr}":
                        made.setdefault(target.attr, kind)
    return made
