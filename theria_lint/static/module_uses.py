"""What the code of a module takes from other modules, by its imports.

Names are dotted as the file imports them, relative ones with their leading dots: ``.kernel.feature_map``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from theria_lint.sources.source_text import parse_python
from theria_lint.static.attention_code import AttentionCode
from theria_lint.static.class_lineage import CALL_ENTRIES, find_methods_of, get_lineage
from theria_lint.static.dataflow import collect_assigned_attributes, get_assignments
from theria_lint.static.scopes import (
    MOST_MEANINGS,
    ModuleIndex,
    NameTable,
    Scope,
    build_index,
    find_instance,
    get_dotted_name,
    get_parameter_defaults,
    get_self_name,
    is_super,
)


class ModuleUse(NamedTuple):
    """What using one thing of a module may run there, and what that code takes from other modules; all sorted.

    ``functions`` are the symbols of what runs, ``classes`` those of the classes that take part, with what builds their
    instances. ``imports``: what the code names of other modules; ``called``: the members that it calls, perhaps those
    of what it took. Of a class, or a method of one: ``methods`` are those of the class, ``bases`` what it inherits from
    other modules, ``used_of_itself`` the members that the code reads of its own instance, which an heir may override.
    ``elsewhere``: what the thing is but another name for. ``stars``: what it may be, by an import of everything, where
    the module does not name it: then all else is empty, and ``known`` false. ``is_attention``: the code is attention
    code by what its own file tells.
    """

    functions: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    used_of_itself: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    stars: tuple[str, ...] = ()
    known: bool = False
    is_attention: bool = False


def read_module_uses(source: str) -> ModuleUseFinder:
    """The uses of a module; `SourceError` for what does not parse."""
    return ModuleUseFinder(build_index(parse_python(source)))


class ModuleUseFinder:
    """Answers, for one module, what its functions and classes take from others."""

    def __init__(self, index: ModuleIndex) -> None:
        self._index = index
        self._attention = AttentionCode(index)
        self._variables = _collect_assigned_values(index.module.select_nodes(ast.Assign))
        self._defined = {scope.name for scope in index.module.children}
        self._members: dict[Scope, dict[str, set[str]]] = {}

    def find_module_use(self, name: str) -> ModuleUse:
        """What using ``f``, ``Class`` or ``Class.member`` of the module means."""
        owner, _, member = name.partition(".")
        module = self._index.module
        if not (owner in module.names.bound or owner in self._variables or owner in self._defined):
            return ModuleUse(stars=module.names.resolve_path(name))
        classes = [scope for scope in module.children if scope.name == owner and scope.kind == "class"]
        entries = [*self._attention.resolve_dotted_symbol(name), *self._iter_submodules(classes, member)]
        reached = self._attention.collect_reachable(entries)
        owners = {scope.parent for scope in reached if scope.parent is not None and scope.parent.kind == "class"}
        line = {ancestor for scope in (*classes, *owners) for ancestor in get_lineage(self._index, scope)}
        imports = {path for scope in reached for path in self._iter_imports(scope)}
        imports |= {path for scope in classes for path in self._iter_missing_members(scope, member)}
        return ModuleUse(
            _sort_unique(scope.symbol for scope in reached),
            _sort_unique(symbol for scope in line for symbol in _iter_constructor_symbols(scope)),
            _sort_unique(imports),
            _sort_unique(name for scope in reached for name in _iter_called_members(scope)),
            () if member else _sort_unique(_iter_public_methods(self._index, classes)),
            _sort_unique(base for scope in classes for base in self._iter_inherited(scope)),
            _sort_unique(name for scope in classes for name in self._iter_members_read(scope, reached)),
            _sort_unique(self._resolve_imported(module.names, name)),
            known=True,
            is_attention=reached <= self._attention.active,
        )

    def _iter_submodules(self, classes: Iterable[Scope], member: str) -> Iterator[Scope]:
        """What an attribute of a class's instances runs, where it is no method."""
        for scope in classes:
            for ancestor in get_lineage(self._index, scope):
                yield from self._attention.collect_members(ancestor).get(member, ())

    def _iter_missing_members(self, scope: Scope, member: str) -> Iterator[str]:
        """What runs in other modules when an instance is called, or a member of it used: what is inherited, or made."""
        wanted = (member.partition(".")[0],) if member else CALL_ENTRIES
        for name in wanted:
            if not find_methods_of(self._index, scope, name):
                yield from self._resolve_instance_attribute(scope, name)

    def _resolve_instance_attribute(self, owner: Scope, name: str) -> Iterator[str]:
        """What an attribute of an instance may be in other modules: made by them, or inherited from them."""
        line = get_lineage(self._index, owner)
        made = {path for ancestor in line for path in self._collect_made_attributes(ancestor).get(name, ())}
        yield from made
        if not made and not (owner.kind == "class" and find_methods_of(self._index, owner, name)):
            yield from (f"{base}.{name}" for base in self._iter_inherited(owner))

    def _iter_inherited(self, owner: Scope) -> Iterator[str]:
        return (base for ancestor in get_lineage(self._index, owner) for base in _iter_foreign_bases(ancestor))

    def _iter_members_read(self, owner: Scope, code: Iterable[Scope]) -> Iterator[str]:
        """The members that some code reads of an instance of a class."""
        line = get_lineage(self._index, owner)
        for scope in code:
            found = find_instance(scope)
            if found is not None and found[1] in line:
                for node in scope.select_nodes(ast.Attribute):
                    if isinstance(node.value, ast.Name) and node.value.id == found[0]:
                        yield node.attr

    def _iter_imports(self, scope: Scope) -> Iterator[str]:
        """What a function's own code, its decorators and the defaults of its parameters name of other modules."""
        assert scope.parent is not None
        instance = get_self_name(scope)
        for node in scope.nodes:
            if isinstance(node, ast.Name | ast.Attribute) and self._is_whole_read(node):
                path = get_dotted_name(node)
                if path is not None and path.partition(".")[0] != instance:
                    yield from self._resolve_imported(scope.names, path)
                elif instance is not None:
                    yield from self._resolve_self_member(scope.parent, node, instance)
        for value in (*scope.decorators, *get_parameter_defaults(scope).values()):
            for path in _iter_mentioned_paths(value):
                yield from self._resolve_imported(scope.parent.names, path)

    def _resolve_self_member(self, owner: Scope, node: ast.expr, instance: str) -> Iterator[str]:
        """What ``self.member``, or ``super().member``, names of other modules."""
        while isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            node = node.value
        if not isinstance(node, ast.Attribute):
            return
        if isinstance(node.value, ast.Name) and node.value.id == instance:
            yield from self._resolve_instance_attribute(owner, node.attr)
        elif is_super(node.value):
            yield from (f"{base}.{node.attr}" for base in self._iter_inherited(owner))

    def _is_whole_read(self, node: ast.Name | ast.Attribute) -> bool:
        """Whether a name is read, with all attributes that are taken of it, for more than its type."""
        is_part = isinstance(self._index.parents.get(node), ast.Attribute)
        return isinstance(node.ctx, ast.Load) and not is_part and not self._attention.is_type_tested(node)

    def _resolve_imported(self, names: NameTable, path: str) -> set[str]:
        """The imported things that a dotted name may stand for, through variables of the module too."""
        root = path.partition(".")[0]
        is_own = root not in self._index.module.names.bound and (root in self._defined or root in self._variables)
        found = set[str]() if is_own else set(names.resolve_path(path))
        return found if names.bound.get(root) == set() else found | self._variable_sources.get(root, set())

    @cached_property
    def _variable_sources(self) -> dict[str, set[str]]:
        """The imported things that each variable of the module is made from, through other variables too."""
        sources: dict[str, set[str]] = {}
        users: dict[str, set[str]] = {}
        for name, values in self._variables.items():
            paths = {path for value in values for path in _iter_mentioned_paths(value)}
            sources[name] = {meaning for path in paths for meaning in self._index.module.names.resolve_path(path)}
            for path in paths:
                users.setdefault(path.partition(".")[0], set()).add(name)
        fresh = [(name, meaning) for name, meanings in sources.items() for meaning in meanings]
        while fresh:
            name, meaning = fresh.pop()
            for user in users.get(name, ()):
                if meaning not in sources[user] and len(sources[user]) < MOST_MEANINGS:
                    sources[user].add(meaning)
                    fresh.append((user, meaning))
        return sources

    def _collect_made_attributes(self, owner: Scope) -> dict[str, set[str]]:
        """The imported things that a class's body and methods put into each attribute of an instance."""
        if owner not in self._members:
            table = self._members[owner] = {}
            for method in (owner, *owner.children):
                if method.kind == "function" or method is owner:
                    for name, values in collect_assigned_attributes(method).items():
                        for value in values:
                            table.setdefault(name, set()).update(self._iter_value_sources(method, value))
        return self._members[owner]

    def _iter_value_sources(self, method: Scope, value: ast.expr) -> Iterator[str]:
        """The imported things that a value is made from, through the method's variables and defaults too."""
        values = {name: [value] for name, value in get_parameter_defaults(method).items()}
        for targets, assigned in get_assignments(method):
            for name in targets:
                values.setdefault(name, []).append(assigned)
        seen: set[str] = set()
        stack = [value]
        while stack:
            for path in _iter_mentioned_paths(stack.pop()):
                yield from self._resolve_imported(method.names, path)
                root = path.partition(".")[0]
                if root not in seen:
                    seen.add(root)
                    stack += values.get(root, ())


def _sort_unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _iter_constructor_symbols(owner: Scope) -> Iterator[str]:
    """The symbols of a class and of what builds its instances."""
    yield owner.symbol
    yield from (init.symbol for init in owner.find_own_methods("__init__"))


def _iter_public_methods(index: ModuleIndex, classes: Iterable[Scope]) -> Iterator[str]:
    line = (ancestor for scope in classes for ancestor in get_lineage(index, scope))
    methods = (child.name for owner in line for child in owner.children if child.kind == "function")
    return (name for name in methods if not name.startswith("__"))


def _iter_foreign_bases(owner: Scope) -> Iterator[str]:
    assert isinstance(owner.node, ast.ClassDef)
    assert owner.parent is not None
    for base in owner.node.bases:
        yield from owner.parent.names.resolve_node(base.value if isinstance(base, ast.Subscript) else base)


def _iter_called_members(scope: Scope) -> Iterator[str]:
    """The members that a function calls."""
    return (call.func.attr for call in scope.select_nodes(ast.Call) if isinstance(call.func, ast.Attribute))


def _iter_mentioned_paths(value: ast.AST) -> Iterator[str]:
    """The names that an expression mentions, each with all attributes that are taken of it."""
    stack = [value]
    while stack:
        node = stack.pop()
        path = get_dotted_name(node)
        if path is not None:
            yield path
        else:
            stack.extend(ast.iter_child_nodes(node))


def _collect_assigned_values(statements: Iterable[ast.Assign]) -> dict[str, list[ast.expr]]:
    """What each variable is assigned."""
    table: dict[str, list[ast.expr]] = {}
    for node in statements:
        for target in node.targets:
            if isinstance(target, ast.Name):
                table.setdefault(target.id, []).append(node.value)
    return table
