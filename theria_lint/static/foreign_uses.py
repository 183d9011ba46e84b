"""What the functions of a module run that other files define: what they call, hand on, or have as a submodule."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterable, Iterator, Mapping

from theria_lint.static import attention_names
from theria_lint.static.class_lineage import CALL_ENTRIES, MULTIHEAD, get_bases, get_lineage
from theria_lint.static.dataflow import collect_assigned_attributes, get_assignments, list_values_behind
from theria_lint.static.scopes import (
    ModuleIndex,
    NameFollower,
    Scope,
    find_instance,
    get_dotted_name,
    get_parameter_hints,
    is_super,
    list_arguments,
)

INSTANCE = "()"
"""What ends the path of a thing that is run after it was called: of a class, or what a function made."""
# To call one of these is to use what it belongs to.
_ENTRIES = frozenset({"apply", *CALL_ENTRIES})
# These define no attention, or are told by their names: nothing is looked up in them.
_LIBRARIES = frozenset({*sys.stdlib_module_names, *dir(builtins), "torch", "numpy", "einops", "triton", "scipy"})


class ForeignUses:
    """The dotted paths, as the file imports them, of what its functions run."""

    def __init__(self, code: NameFollower) -> None:
        self._code = code
        self._members: dict[Scope, dict[str, set[str]]] = {}
        self._used: dict[Scope, frozenset[str]] = {}

    def collect_used(self, scope: Scope) -> frozenset[str]:
        """What a function's own code runs of other files; with `INSTANCE` what it runs an instance of."""
        if scope not in self._used:
            self._used[scope] = frozenset(self._iter_used(scope))
        return self._used[scope]

    def _iter_used(self, scope: Scope) -> Iterator[str]:
        made = {
            name: paths
            for names, value in get_assignments(scope)
            if isinstance(value, ast.Call) and (paths := scope.names.resolve_node(value.func))
            for name in names
        }
        for call in scope.select_nodes(ast.Call):
            if isinstance(call.func, ast.Call):
                yield from map(_name_instance, scope.names.resolve_node(call.func.func))
            for node in (call.func, *list_arguments(call)):
                if isinstance(node, ast.Name | ast.Attribute) and not self._code.is_type_tested(node):
                    path = get_dotted_name(node)
                    yield from _iter_meant(scope, path)
                    yield from map(_name_instance, made.get(path or "", ()))
        yield from self._iter_used_members(scope)

    def _iter_used_members(self, scope: Scope) -> Iterator[str]:
        found = find_instance(scope)
        if found is None:
            return
        instance, owner = found
        members: dict[str, set[str]] = {}
        for line in get_lineage(self._code.index, owner):
            for name, paths in self._collect_members(line).items():
                members.setdefault(name, set()).update(paths)
        for node in scope.select_nodes(ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == instance:
                yield from members.get(node.attr, ())
            elif is_super(node.value) and node.attr in CALL_ENTRIES:
                yield from list_foreign_bases(self._code.index, owner)

    def _collect_members(self, owner: Scope) -> dict[str, set[str]]:
        """What the methods of a class put into each attribute of an instance, as far as it is of other files."""
        if owner not in self._members:
            table = self._members[owner] = {}
            for method in owner.children:
                hints = get_parameter_hints(method)
                found = collect_assigned_attributes(method) if method.kind == "function" else {}
                for member, values in found.items():
                    table.setdefault(member, set()).update(_iter_made(method, values, hints))
        return self._members[owner]


def list_foreign_bases(index: ModuleIndex, owner: Scope) -> list[str]:
    """The imported classes from which a class inherits, through those of its file."""
    bases = [base for line in get_lineage(index, owner) for base in get_bases(line)]
    return [_name_instance(base) for base in bases if base not in index.by_name]


def _iter_made(method: Scope, values: Iterable[ast.expr], hints: Mapping[str, list[ast.expr]]) -> Iterator[str]:
    """What expressions make instances of, by imports, defaults and annotations; or name, to be called later."""
    for value in list_values_behind(method, values, {}):
        for node in ast.walk(value):
            if isinstance(node, ast.Name) and node.id in hints:
                for hint in hints[node.id]:
                    yield from map(_name_instance, _iter_mentioned(method, hint))
            elif isinstance(node, ast.Call):
                yield from map(_name_instance, method.names.resolve_node(node.func))
    for value in values:
        yield from _iter_meant(method, get_dotted_name(value))


def _iter_mentioned(method: Scope, hint: ast.expr) -> Iterator[str]:
    assert method.parent is not None
    for node in ast.walk(hint):
        yield from method.parent.names.resolve_node(node) if isinstance(node, ast.Name | ast.Attribute) else ()


def _iter_meant(scope: Scope, path: str | None) -> Iterator[str]:
    """What a name means; one of a class or function that is used by a method, or ``apply``, means this."""
    for meaning in scope.names.resolve_path(path):
        owner, _, last = meaning.rpartition(".")
        yield _name_instance(owner) if last in _ENTRIES else meaning


def _name_instance(path: str) -> str:
    return path + INSTANCE


def names_foreign_attention(path: str) -> bool:
    """Whether what is run of another file attends, as far as its name can tell."""
    thing = path.removesuffix(INSTANCE)
    last = thing.rpartition(".")[2]
    if thing != path:
        return thing in MULTIHEAD or attention_names.is_attending_class_name(last)
    # To call a class is only to make an instance.
    return last.lstrip("_")[:1].islower() and attention_names.is_attention_function_name(last)


def may_be_resolved(path: str) -> bool:
    """Whether a linted file may define what a path names."""
    return path.removesuffix(INSTANCE).partition(".")[0] not in _LIBRARIES
