"""Follow names in a module: which functions each function names, and so may call."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from theria_lint.errors import SourceError
from theria_lint.static.class_lineage import (
    CALL_ENTRIES,
    FUNCTION_ENTRIES,
    MAKING_ENTRIES,
    find_methods_of,
    get_lineage,
    is_autograd_function,
)
from theria_lint.static.constructor_calls import ConstructorCalls, list_kept_parameters
from theria_lint.static.dataflow import collect_assigned_attributes, list_values_behind
from theria_lint.static.registered_ops import find_derivatives_by_name, find_registered_derivatives
from theria_lint.static.scopes import (
    ModuleIndex,
    Scope,
    find_instance,
    get_callee_name,
    get_dotted_name,
    get_parameter_hints,
    is_device_kernel,
    is_super,
)

# In one file: where names are defined again and again, each use means all of them; and many targets may each run the
# same many functions. Real ones have a hundredth.
_MOST_EDGES = 1_000_000
# The nodes that can name a function.
_NAMING_NODES = frozenset({ast.Name, ast.Attribute})


class MentionGraph:
    """The functions of a module, and which of them each names."""

    def __init__(self, index: ModuleIndex) -> None:
        self.index = index
        self._variables = _collect_module_variables(index)
        self._edges = 0
        self._mentions: dict[Scope, list[Scope]] = {}
        self._next: dict[Scope, list[Scope]] = {}
        self._members: dict[Scope, dict[str, list[Scope]]] = {}
        self._built: dict[Scope, dict[str, list[Scope]]] = {}
        self._variables_read: dict[Scope, frozenset[str]] = {}
        self._constructor_calls = ConstructorCalls(index)
        self._handed: dict[Scope, dict[str, list[Scope]]] = {}
        self._registered = find_registered_derivatives(index)
        self._registered_by_name = find_derivatives_by_name(index)

    def collect_reachable(self, roots: Iterable[Scope]) -> set[Scope]:
        """The functions that running ``roots`` may run, ``roots`` and what is nested in them included."""
        reached: set[Scope] = set()
        stack = [scope for scope in roots if not is_device_kernel(scope)]
        while stack:
            scope = stack.pop()
            if scope not in reached:
                reached.add(scope)
                stack += self._list_next(scope)
        self._count_edges(len(reached))
        return reached

    def _list_next(self, scope: Scope) -> list[Scope]:
        """What a function may run next: what is nested in it, and what it names; no kernels of a device."""
        if scope not in self._next:
            nested = (child for child in scope.children if child.kind == "function")
            found = dict.fromkeys((*nested, *self.list_mentions(scope), *self.list_handed(scope)))
            self._next[scope] = [inner for inner in found if not is_device_kernel(inner)]
        return self._next[scope]

    def resolve_dotted_symbol(self, name: str) -> list[Scope]:
        """What runs when something of the module is used by its dotted name: ``f``, ``Class``, ``Class.method``."""
        owner, _, rest = name.partition(".")
        return list(self._resolve_name(self.index.module, owner, rest.partition(".")[0] or None))

    def list_named(self, scope: Scope, node: ast.expr) -> list[Scope]:
        """The functions of the file that an expression in a scope names, itself alone."""
        return list(self._resolve_mention(scope, node, find_instance(scope), set()))

    def collect_variables(self, scopes: Iterable[Scope]) -> set[str]:
        """The variables of the module that some functions read, and those that their values are made of."""
        found = {name for scope in scopes for name in self._list_variables_read(scope)}
        stack = list(found)
        while stack:
            inner = {name for name, _ in self._variables[stack.pop()] if name in self._variables} - found
            found |= inner
            stack += inner
        self._count_edges(len(found))
        return found

    def _list_variables_read(self, scope: Scope) -> frozenset[str]:
        if scope not in self._variables_read:
            self._variables_read[scope] = frozenset(
                node.id
                for node in (*scope.header, *scope.nodes)
                if isinstance(node, ast.Name) and node.id in self._variables and node.id not in scope.parameters
            )
        self._count_edges(len(self._variables_read[scope]))
        return self._variables_read[scope]

    def resolves_member(self, owner: Scope, name: str) -> bool:
        """Whether the file says what an attribute of a class's instances runs."""
        return any(True for _ in self._resolve_member(owner, name))

    def has_formula(self, operator: Scope) -> bool:
        """Whether the file registers a backward for a custom op."""
        return operator in self._registered

    def list_mentions(self, scope: Scope) -> list[Scope]:
        """The functions of the file that a function's own code names, and so may call."""
        if scope not in self._mentions:
            self._mentions[scope] = list(dict.fromkeys(map(self._counted, self._iter_mentions(scope))))
        return self._mentions[scope]

    def list_handed(self, scope: Scope) -> list[Scope]:
        """What may run in a method besides, of what the file hands to the constructors of its class."""
        instance = find_instance(scope)
        if instance is None:
            return []
        line = get_lineage(self.index, instance[1])
        used = {
            node.attr
            for node in scope.select_nodes(ast.Attribute)
            if isinstance(node.value, ast.Name) and node.value.id == instance[0]
        }
        tables = [self._collect_handed(ancestor) for ancestor in line] if used else []
        return [found for table in tables for name in sorted(used & table.keys()) for found in table[name]]

    def _collect_handed(self, owner: Scope) -> dict[str, list[Scope]]:
        """By attribute of an instance that holds what its constructor was given: what runs when that is called."""
        if owner not in self._handed:
            table = self._handed[owner] = {}
            for init in owner.find_own_methods("__init__"):
                for member, parameter in list_kept_parameters(init):
                    handed = self._constructor_calls.find_handed(init, parameter)
                    found = dict.fromkeys(run for scope, node in handed for run in self.list_named(scope, node))
                    table.setdefault(member, []).extend(map(self._counted, found))
        return self._handed[owner]

    def find_naming(self, scope: Scope) -> Sequence[Scope]:
        """The other functions, and the module's own code, that name a function and so may call it, in source order."""
        return self._naming.get(scope, ())

    @cached_property
    def _naming(self) -> dict[Scope, list[Scope]]:
        table: dict[Scope, list[Scope]] = {}
        for scope in (self.index.module, *self.index.iter_functions()):
            for mentioned in self.list_mentions(scope):
                if mentioned is not scope:
                    table.setdefault(mentioned, []).append(scope)
        return table

    def _counted(self, found: Scope) -> Scope:
        self._count_edges(1)
        return found

    def _count_edges(self, count: int) -> None:
        self._edges += count
        if self._edges > _MOST_EDGES:
            raise SourceError("too_entangled", most=_MOST_EDGES)

    def _iter_mentions(self, scope: Scope) -> Iterator[Scope]:
        yield from self._registered.get(scope, ())
        instance = find_instance(scope)
        names: set[tuple[str, str | None]] = set()
        for node in (*scope.header, *scope.nodes):
            if type(node) in _NAMING_NODES:
                yield from self._resolve_mention(scope, node, instance, names)
                if self._registered_by_name:
                    yield from self._registered_by_name.get(get_dotted_name(node) or "", ())

    def _resolve_mention(
        self,
        scope: Scope,
        node: ast.AST,
        instance: tuple[str, Scope] | None,
        names: set[tuple[str, str | None]],
    ) -> Iterator[Scope]:
        """What one node of a function's own code names; ``names`` are those that were followed, and are not again."""
        if isinstance(node, ast.Name):
            known = node.id in self.index.by_name or node.id in self._variables
            if known and isinstance(node.ctx, ast.Load) and not self.is_type_tested(node):
                said = node.id, self._find_attribute(node)
                if said not in names:
                    names.add(said)
                    yield from self._resolve_name(scope, *said)
        elif instance is not None and isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name):
                if node.value.id == instance[0]:
                    yield from self._resolve_member(instance[1], node.attr)
            elif isinstance(node.value, ast.Attribute) and get_dotted_name(node.value.value) == instance[0]:
                yield from self._resolve_method_of(instance[1], node.value.attr, node.attr)
            elif is_super(node.value):
                for ancestor in get_lineage(self.index, instance[1])[1:]:
                    yield from ancestor.find_own_methods(node.attr)

    def is_type_tested(self, node: ast.expr) -> bool:
        """Whether a name only takes part in an ``isinstance`` test."""
        parent = self.index.parents.get(node)
        if isinstance(parent, ast.Tuple):
            parent = self.index.parents.get(parent)
        return isinstance(parent, ast.Call) and get_callee_name(parent) in {"isinstance", "issubclass"}

    def _find_attribute(self, node: ast.Name) -> str | None:
        """What is taken of what a name stands for."""
        parent = self.index.parents.get(node)
        return parent.attr if isinstance(parent, ast.Attribute) else None

    def _resolve_name(self, scope: Scope, name: str, attribute: str | None) -> Iterator[Scope]:
        yield from self._find_entries(scope, name, attribute)
        if self._is_visible_from(scope, name):
            yield from self._variable_entries.get(name, ())

    def _find_entries(self, scope: Scope, name: str, attribute: str | None) -> Iterator[Scope]:
        """What runs when what is defined under a name, or an attribute of it, is used."""
        for found in self._find_visible(scope, name):
            if found.kind == "function":
                yield found
            else:
                yield from self._iter_class_entries(found, attribute)

    @cached_property
    def _variable_entries(self) -> dict[str, dict[Scope, None]]:
        """What runs when each variable of the module is used: what it was made from, through other variables too."""
        module = self.index.module
        entries: dict[str, dict[Scope, None]] = {name: {} for name in self._variables}
        users: dict[str, list[str]] = {}
        fresh: list[tuple[str, Scope]] = []
        for name, pairs in self._variables.items():
            for inner, attribute in dict.fromkeys(pairs):
                users.setdefault(inner, []).append(name)
                fresh += [(name, found) for found in self._find_entries(module, inner, attribute)]
        while fresh:
            name, found = fresh.pop()
            if found not in entries[name]:
                self._count_edges(1)
                entries[name][found] = None
                fresh += [(user, found) for user in users.get(name, ())]
        return entries

    def _is_visible_from(self, scope: Scope, name: str) -> bool:
        return name not in scope.parameters

    def _find_visible(self, scope: Scope, name: str) -> list[Scope]:
        """The definitions that a bare name means in a scope, from the innermost scope that has any."""
        current: Scope | None = scope
        while current is not None:
            if name in current.parameters:
                return []
            if current.kind != "class" or current is scope:
                found = current.defined(name)
                if found:
                    return found
            current = current.parent
        return []

    def _iter_class_entries(self, owner: Scope, attribute: str | None) -> Iterator[Scope]:
        """What runs when a class, or an attribute of it, is used."""
        if is_autograd_function(self.index, owner):
            entries: tuple[str, ...] = FUNCTION_ENTRIES if attribute in (None, "apply") else (attribute,)
        else:
            entries = (*CALL_ENTRIES, *MAKING_ENTRIES) if attribute is None else (attribute,)
        for name in entries:
            yield from find_methods_of(self.index, owner, name)

    def _resolve_member(self, owner: Scope, attribute: str) -> Iterator[Scope]:
        """What ``self.attribute`` may run: methods, overridden ones in the file's subclasses, submodules."""
        yield from find_methods_of(self.index, owner, attribute)
        for heir in self._list_subclasses.get(owner, ()):
            yield from heir.find_own_methods(attribute)
        for ancestor in get_lineage(self.index, owner):
            yield from self.collect_members(ancestor).get(attribute, ())

    def _resolve_method_of(self, owner: Scope, member: str, method: str) -> Iterator[Scope]:
        """What ``self.member.method`` may run: a method of the classes that the member may be made of."""
        line = get_lineage(self.index, owner)
        for built in dict.fromkeys(one for ancestor in line for one in self._collect_built(ancestor).get(member, ())):
            yield from find_methods_of(self.index, built, method)

    def _collect_built(self, owner: Scope) -> dict[str, list[Scope]]:
        """The classes of the file that the values name which a class assigns to the attributes of its instances."""
        if owner not in self._built:
            table: dict[str, list[Scope]] = {}
            for method in (child for child in owner.children if child.kind == "function"):
                for member, values in collect_assigned_attributes(method).items():
                    names = dict.fromkeys(name for value in values for name, _ in _iter_named_attributes(value))
                    found = (one for name in names for one in self._find_visible(method, name) if one.kind == "class")
                    table.setdefault(member, []).extend(found)
            self._built[owner] = table
        return self._built[owner]

    @cached_property
    def _list_subclasses(self) -> dict[Scope, list[Scope]]:
        """The classes of the file that inherit from each."""
        table: dict[Scope, list[Scope]] = {}
        for scope in self.index.iter_classes():
            for ancestor in get_lineage(self.index, scope)[1:]:
                table.setdefault(ancestor, []).append(scope)
        return table

    def collect_members(self, owner: Scope) -> dict[str, list[Scope]]:
        """What the attributes that a class assigns on ``self`` (or in its body) may run when they are called."""
        if owner not in self._members:
            table: dict[str, list[Scope]] = {}
            self._members[owner] = table
            is_called = any(owner.find_own_methods(name) for name in CALL_ENTRIES)
            for method in owner.children:
                if method.kind == "function":
                    self._add_members_of(method, table, is_called)
        return self._members[owner]

    def _add_members_of(self, method: Scope, table: dict[str, list[Scope]], is_called: bool) -> None:
        """Add what a method assigns; of what is called also what the local names in it are made of."""
        hints = get_parameter_hints(method) if is_called else {}
        for member, values in collect_assigned_attributes(method).items():
            for value in list_values_behind(method, values, hints) if is_called else values:
                for name, attribute in _iter_named_attributes(value):
                    table.setdefault(member, []).extend(self._resolve_name(method, name, attribute))


def _iter_named_attributes(value: ast.AST) -> Iterator[tuple[str, str | None]]:
    """The names that an expression loads, each with the attribute taken of it."""
    for node in ast.walk(value):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr
        elif isinstance(node, ast.Name):
            yield node.id, None


def _collect_module_variables(index: ModuleIndex) -> dict[str, list[tuple[str, str | None]]]:
    """What each variable of the module was assigned, as the names that the values load."""
    table: dict[str, list[tuple[str, str | None]]] = {}
    for node in index.module.nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    table.setdefault(target.id, []).extend(_list_attributed_names(node.value))
    return table


def _list_attributed_names(value: ast.AST) -> list[tuple[str, str | None]]:
    pairs = list(_iter_named_attributes(value))
    attributed = {name for name, attribute in pairs if attribute is not None}
    return [(name, attribute) for name, attribute in pairs if attribute is not None or name not in attributed]
