"""The methods of a module that attend, and that nothing else of the file runs: ways to use it beside its forward."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from theria_lint.static import attention_names
from theria_lint.static.attention_code import AttentionCode
from theria_lint.static.class_lineage import (
    CALL_ENTRIES,
    MODULE_BASES,
    UNNAMED_ENTRIES,
    find_methods_of,
    get_bases,
    get_lineage,
)
from theria_lint.static.scopes import ModuleIndex, Scope, get_callee_name, is_switched_off


def find_spare_methods(
    index: ModuleIndex, attention: AttentionCode, owner: Scope, methods: Iterable[Scope]
) -> list[Scope]:
    """Those of some methods of a module that attend by themselves, without its forward and without each other.

    Nothing tells of a module that chooses methods by a name that it computes, or has its forward from another file.
    """
    entries = [entry for name in CALL_ENTRIES for entry in find_methods_of(index, owner, name)]
    running = attention.collect_reachable([*entries, *find_methods_of(index, owner, "__init__")])
    if any(map(_calls_by_computed_name, running)) or not (entries or _is_all_here(index, owner)):
        return []
    attending = set(attention.entry_points)
    spare = [
        method
        for method in methods
        if method not in running
        and method.name not in UNNAMED_ENTRIES
        and not is_switched_off(method)
        and (method in attending or (entries and _runs_attention(attention, method)))
    ]
    reached = {method: attention.collect_reachable([method]) - {method} for method in spare}
    inner = {part for parts in reached.values() for part in parts}
    return [
        method
        for method in spare
        if method not in inner
        and attention.active.isdisjoint(set(attention.find_naming(method)) - {method})
        and reached[method].isdisjoint(entries)
    ]


def _is_all_here(index: ModuleIndex, owner: Scope) -> bool:
    """Whether a class has no base in another file, which may run its methods."""
    bases = {base for line in get_lineage(index, owner) for base in get_bases(line)}
    return bases <= {*MODULE_BASES, *index.by_name}


def _runs_attention(attention: AttentionCode, method: Scope) -> bool:
    """Whether a method runs attention, and is not named after something else."""
    return attention.leads_to_attention(method) and not attention_names.is_bystander_name(method.name)


def _calls_by_computed_name(method: Scope) -> bool:
    """Whether a function gets something of an object by a name that it computes: ``getattr(self, f"by_{mode}")``."""
    asked = [call.args for call in method.select_nodes(ast.Call) if get_callee_name(call) == "getattr"]
    return any(not isinstance(name, ast.Constant) for given in asked for name in given[1:2])
