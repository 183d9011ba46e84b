"""Find the code around attention: what runs attention of the file, or of another that it imports."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property

from theria_lint.static import attention_names
from theria_lint.static.class_lineage import CALL_ENTRIES, is_autograd_function
from theria_lint.static.dataflow import get_assignments
from theria_lint.static.foreign_uses import ForeignUses, may_be_resolved, names_foreign_attention
from theria_lint.static.gradient_calls import takes_gradients
from theria_lint.static.scopes import (
    ModuleIndex,
    NameFollower,
    Scope,
    find_instance,
    get_dotted_name,
    is_device_kernel,
    is_switched_off,
    list_arguments,
    returns_value,
)


class CallerFinder:
    """Looks for the functions of a module that run some attention code, ``core``.

    A forward runs it by whatever leads there; a plain function by calling it, or handing it on, in its own code.
    """

    def __init__(self, code: NameFollower, core: Collection[Scope]) -> None:
        self._code = code
        self._core = set(core)
        self._uses = ForeignUses(code)
        self._functions = list(code.index.iter_functions())
        self._running = set[Scope]()
        self._found = self._spread([*core, *filter(self._runs_foreign_attention, self._functions)], self._running)

    def is_running(self, scope: Scope) -> bool:
        """Whether a function runs attention, whatever for."""
        return scope in self._running

    def find_callers(self) -> list[Scope]:
        """The callers that are no attention code themselves, in source order."""
        return self._sort_by_place(self._callers)

    def find_dependent(self) -> dict[Scope, frozenset[str]]:
        """The functions that are callers if something of another file attends, each with what that may be."""
        uses = {scope: used for scope in self._functions if (used := self._collect_unknown(scope))}
        seen = set(self._running)
        found = self._spread([scope for scope in uses if scope not in seen], seen) - self._callers
        return {
            scope: frozenset().union(*(uses.get(ran, ()) for ran in self._code.collect_reachable([scope])))
            for scope in self._sort_by_place(found)
        }

    def _collect_unknown(self, scope: Scope) -> frozenset[str]:
        """What a function runs that a linted file may define, by names that do not tell."""
        if scope in self._core or scope.parent is None or not self._leads_on(scope):
            return frozenset()
        return frozenset(filter(may_be_resolved, self._uses.collect_used(scope)))

    def _sort_by_place(self, found: Collection[Scope]) -> list[Scope]:
        return [scope for scope in self._functions if scope in found]

    @cached_property
    def _callers(self) -> set[Scope]:
        handed = self._iter_handed_attention(self._running)
        return self._found | set(handed) | set(self._iter_gradient_takers(self._functions, self._running))

    def _spread(self, starts: Iterable[Scope], running: set[Scope]) -> set[Scope]:
        """The callers among some functions, and among those that lead to them, which are added to ``running``."""
        stack = list(starts)
        running.update(stack)
        found = {scope for scope in stack if scope not in self._core and self._may_be_caller(scope)}
        while stack:
            ran = stack.pop()
            for scope in self._mentioning.get(ran, ()):
                if scope not in running and self._leads_on(scope):
                    running.add(scope)
                    stack.append(scope)
                    if self._may_be_caller(scope) and (
                        is_forward(self._code.index, scope) or self._runs(scope, running)
                    ):
                        found.add(scope)
        return found

    def _iter_handed_attention(self, attention: Collection[Scope]) -> Iterator[Scope]:
        """The forwards that call attention which the file hands to their constructors.

        Whoever makes such an instance runs attention only if it hands some over, and then its own code names that.
        """
        stack = [scope for scope in self._functions if not set(self._code.list_handed(scope)).isdisjoint(attention)]
        seen = set(stack)
        while stack:
            scope = stack.pop()
            if is_forward(self._code.index, scope) and scope not in attention and self._may_be_caller(scope):
                yield scope
            mine = (up for up in self._mentioning.get(scope, ()) if _find_class(up) is _find_class(scope))
            new = [up for up in mine if up not in seen]
            seen.update(new)
            stack += new

    @cached_property
    def _mentioning(self) -> dict[Scope, list[Scope]]:
        """The functions that name each, or hold it."""
        above: dict[Scope, list[Scope]] = {}
        for scope in self._functions:
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
            given = (call.func, *list_arguments(call))
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
                given = list_arguments(call)
                if any(self._is_attention(scope, node, attention, instances) for node in given):
                    yield from (found for found in self._code.list_named(scope, call.func) if found in wanted)

    def _runs_foreign_attention(self, scope: Scope) -> bool:
        """Whether a function runs attention that another file defines, as far as names tell."""
        if not self._leads_on(scope) or scope.parent is None:
            return False
        return any(map(names_foreign_attention, self._uses.collect_used(scope))) or self._calls_unknown_member(scope)

    def _calls_unknown_member(self, scope: Scope) -> bool:
        """Whether a function calls a member named attention of its instance, of which the file says no more."""
        found = find_instance(scope)
        if found is None:
            return False
        instance, owner = found
        for call in scope.select_nodes(ast.Call):
            node = call.func
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == instance:
                named = attention_names.is_attention_member_name(node.attr)
                if named and not self._code.resolves_member(owner, node.attr):
                    return True
        return False


def _find_class(scope: Scope) -> Scope | None:
    """The class of the instance that a function knows."""
    found = find_instance(scope)
    return found[1] if found is not None else None


def is_forward(index: ModuleIndex, scope: Scope) -> bool:
    """Whether a function is what runs when an object of its class is called."""
    owner = scope.parent
    if owner is None or owner.kind != "class" or scope.name not in CALL_ENTRIES:
        return False
    return not is_autograd_function(index, owner) and not attention_names.is_bystander_name(owner.name)
