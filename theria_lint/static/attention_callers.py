"""Find the code around attention: what runs attention of the file, or of another that it imports."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property

from theria_lint.static import attention_names
from theria_lint.static.class_lineage import CALL_ENTRIES, MULTIHEAD, get_lineage, is_autograd_function
from theria_lint.static.dataflow import get_assignments
from theria_lint.static.gradient_calls import takes_gradients
from theria_lint.static.scopes import (
    ModuleIndex,
    NameFollower,
    Scope,
    get_dotted_name,
    get_self_name,
    is_device_kernel,
    is_switched_off,
    returns_value,
)


class CallerFinder:
    """Looks for the functions of a module that run some attention code, ``core``.

    A forward runs it by whatever leads there; a plain function by calling it, or handing it on, in its own code.
    """

    def __init__(self, code: NameFollower, core: Collection[Scope]) -> None:
        self._code = code
        self._core = set(core)
        self._foreign: dict[Scope, set[str]] = {}

    def find_callers(self) -> list[Scope]:
        """The callers that are no attention code themselves, in source order."""
        return [scope for scope in self._code.index.iter_functions() if scope in self._callers]

    @cached_property
    def _callers(self) -> set[Scope]:
        functions = list(self._code.index.iter_functions())
        above = self._collect_mentioning(functions)
        found, seen = set[Scope](), set(self._core)
        stack = [*self._core, *(scope for scope in functions if self._runs_foreign_attention(scope))]
        seen.update(stack)
        found.update(scope for scope in stack if scope not in self._core and self._may_be_caller(scope))
        while stack:
            ran = stack.pop()
            for scope in above.get(ran, ()):
                if scope not in seen and self._leads_on(scope):
                    seen.add(scope)
                    stack.append(scope)
                    if self._may_be_caller(scope) and (is_forward(self._code.index, scope) or self._runs(scope, seen)):
                        found.add(scope)
        return found | set(self._iter_gradient_takers(functions, seen))

    def _collect_mentioning(self, functions: Iterable[Scope]) -> dict[Scope, list[Scope]]:
        """The functions that name each, or hold it."""
        above: dict[Scope, list[Scope]] = {}
        for scope in functions:
            inner = (child for child in scope.children if child.kind == "function")
            for mentioned in dict.fromkeys((*self._code.list_mentions(scope), *inner)):
                if mentioned is not scope:
                    above.setdefault(mentioned, []).append(scope)
        return above

    def _leads_on(self, scope: Scope) -> bool:
        return scope.name != "__init__" and not attention_names.is_test_name(scope.name) and not is_device_kernel(scope)

    def _may_be_caller(self, scope: Scope) -> bool:
        """Whether a function is of a kind whose results people differentiate."""
        if scope.parent is None or is_device_kernel(scope) or attention_names.is_test_name(scope.name):
            return False
        if is_forward(self._code.index, scope):
            return scope.name == "forward" or not is_switched_off(scope)
        if scope.parent.kind == "class" or attention_names.is_bystander_name(scope.name):
            return False
        return bool(scope.parameters) and returns_value(scope) and not is_switched_off(scope)

    def _runs(self, scope: Scope, attention: Collection[Scope]) -> bool:
        """Whether a function calls attention in its own code, or gives it to what it calls."""
        instances = self._find_instances(scope, attention)
        for call in scope.select_nodes(ast.Call):
            if isinstance(call.func, ast.Call) and self._names_class(scope, call.func.func, attention):
                return True
            given = (call.func, *call.args, *(keyword.value for keyword in call.keywords))
            if any(self._is_attention(scope, node, attention, instances) for node in given):
                return True
        return False

    def _find_instances(self, scope: Scope, attention: Collection[Scope]) -> set[str]:
        """The names to which a scope assigns an instance of an attention class."""
        return {
            name
            for names, value in get_assignments(scope)
            if isinstance(value, ast.Call) and self._names_class(scope, value.func, attention)
            for name in names
        }

    def _is_attention(
        self, scope: Scope, node: ast.expr, attention: Collection[Scope], instances: Collection[str]
    ) -> bool:
        if not isinstance(node, ast.Name | ast.Attribute):
            return False
        if isinstance(node, ast.Name) and node.id in instances:
            return True
        if self._names_class(scope, node, attention):
            return False
        return any(found in attention for found in self._code.list_named(scope, node))

    def _names_class(self, scope: Scope, node: ast.expr, attention: Collection[Scope]) -> bool:
        """Whether an expression names a class of the file that is attention."""
        name = get_dotted_name(node) or ""
        classes = [found for found in self._code.index.by_name.get(name, ()) if found.kind == "class"]
        return bool(classes) and any(found in attention for found in self._code.list_named(scope, node))

    def _iter_gradient_takers(self, functions: Iterable[Scope], attention: Collection[Scope]) -> Iterator[Scope]:
        """The functions that differentiate through attention which they are given somewhere in the module."""
        takers = [scope for scope in functions if scope not in self._core and takes_gradients(scope)]
        wanted = {scope for scope in takers if not attention_names.is_bystander_name(scope.name)}
        if not wanted:
            return
        for scope in (self._code.index.module, *functions):
            instances = self._find_instances(scope, attention)
            for call in scope.select_nodes(ast.Call):
                given = (*call.args, *(keyword.value for keyword in call.keywords))
                if any(self._is_attention(scope, node, attention, instances) for node in given):
                    yield from (found for found in self._code.list_named(scope, call.func) if found in wanted)

    def _runs_foreign_attention(self, scope: Scope) -> bool:
        """Whether a function calls attention that another file defines, as far as names tell."""
        if not self._may_be_caller(scope):
            return False
        instance = get_self_name(scope)
        owners = get_lineage(self._code.index, scope.parent) if instance and scope.parent else []
        members = {f"{instance}.{name}" for owner in owners for name in self._get_foreign_members(owner)}
        loaded = {get_dotted_name(node) for node in scope.select_nodes(ast.Attribute)} if members else set()
        return not members.isdisjoint(loaded) or any(
            self._calls_foreign_attention(scope, call, instance) for call in scope.select_nodes(ast.Call)
        )

    def _calls_foreign_attention(self, scope: Scope, call: ast.Call, instance: str | None) -> bool:
        path = get_dotted_name(call.func)
        if path is None:
            return False
        if instance is not None and path.startswith(f"{instance}."):
            name = path.removeprefix(f"{instance}.")
            unknown = scope.parent is not None and not self._code.resolves_member(scope.parent, name)
            return "." not in name and unknown and attention_names.is_attention_member_name(name)
        return any(
            attention_names.is_attention_function_name(found.rpartition(".")[2])
            for found in scope.names.resolve_path(path)
        )

    def _get_foreign_members(self, owner: Scope) -> set[str]:
        """The attributes to which the methods of a class assign attention modules that other files define."""
        if owner not in self._foreign:
            self._foreign[owner] = {
                target.attr
                for method in owner.children
                for node in method.select_nodes(ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Attribute) and _makes_foreign_attention(method, node.value)
            }
        return self._foreign[owner]


def _makes_foreign_attention(method: Scope, value: ast.expr) -> bool:
    """Whether an expression makes an instance of an imported class that attends."""
    for node in ast.walk(value):
        if isinstance(node, ast.Call):
            for path in method.names.resolve_node(node.func):
                if path in MULTIHEAD or attention_names.is_attending_class_name(path.rpartition(".")[2]):
                    return True
    return False


def is_forward(index: ModuleIndex, scope: Scope) -> bool:
    """Whether a function is what runs when an object of its class is called."""
    owner = scope.parent
    if owner is None or owner.kind != "class" or scope.name not in CALL_ENTRIES:
        return False
    return not is_autograd_function(index, owner) and not attention_names.is_bystander_name(owner.name)
