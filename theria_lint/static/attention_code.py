"""Decide which functions of a module are attention code: the entry points, and what they may call.

Not so functions that take q, k and v to look at them, to update or to load them: their graph is nobody's.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from theria_lint.static import attention_names
from theria_lint.static.attention_callers import CallerFinder
from theria_lint.static.attention_patterns import (
    has_attention_code,
    makes_weights,
    multiplies_results,
    normalises_scores,
    writes_memory,
)
from theria_lint.static.bound_names import find_bound_attention
from theria_lint.static.class_lineage import (
    CALL_ENTRIES,
    FUNCTION_ENTRIES,
    MESSAGE_STEPS,
    MULTIHEAD,
    MULTIHEAD_STEPS,
    find_methods_of,
    find_multihead_members,
    get_bases,
    get_lineage,
    inherits_from,
    is_autograd_function,
    passes_messages,
)
from theria_lint.static.dataflow import get_values
from theria_lint.static.mention_graph import MentionGraph
from theria_lint.static.registered_ops import is_fake_kernel
from theria_lint.static.scopes import (
    ModuleIndex,
    Scope,
    find_instance,
    get_callee_name,
    get_dotted_name,
    get_self_name,
    is_device_kernel,
    is_switched_off,
    returns_value,
)
from theria_lint.static.weighted_values import weighs_values

# Frameworks that have modules of their own.
_FOREIGN_FRAMEWORKS = attention_names.make_word_set("tensorflow tf keras flax jax haiku hk paddle mindspore mlx")
# What these give is numbers, and no tensor.
_NUMBERS = attention_names.make_word_set("item tolist numpy float int bool len str round any all")
# Who steps an optimiser trains.
_TRAINING = frozenset({"step", "zero_grad"})


class AttentionCode(MentionGraph):
    """The attention code of a module: ``active`` runs when attention is computed, ``setup`` builds it.

    ``registered_backwards`` are those of custom ops that compute attention, ``roots`` the symbols that others run.
    """

    def __init__(self, index: ModuleIndex, roots: Collection[str] = ()) -> None:
        super().__init__(index)
        self._computing: dict[Scope, bool] = {}
        self._multihead: dict[Scope, set[str]] = {}
        self._weights = {scope for scope in index.iter_functions() if makes_weights(scope)}
        computing = [scope for scope in index.iter_functions() if scope.symbol in roots or self._is_entry_point(scope)]
        self._caller_finder = CallerFinder(self, computing)
        self.callers = list(filter(_may_run, self._caller_finder.find_callers()))
        self.entry_points = [*computing, *self.callers]
        bound = (
            node.value for _, node in find_bound_attention(self, frozenset(self.entry_points)) if node.value is not None
        )
        made = (found for value in bound for part in ast.walk(value) for found in self._list_made(part))
        self.active = self.collect_reachable([*self.entry_points, *made])
        halves = [found for operator, found in self._registered.items() if operator in self.active]
        halves += [found for found in self._registered_by_name.values() if not self.active.isdisjoint(found)]
        self.registered_backwards = list(dict.fromkeys(found[0] for found in halves if found))
        self.setup = set(self._iter_constructors()) - self.active

    def leads_to_attention(self, scope: Scope) -> bool:
        """Whether a function is attention code or runs some, of another file perhaps."""
        return scope in self.active or self._caller_finder.is_running(scope)

    def find_dependent_callers(self) -> dict[Scope, frozenset[str]]:
        """The functions that are callers if something of another file attends, each with the paths that may be it."""
        found = self._caller_finder.find_dependent()
        return {scope: needs for scope, needs in found.items() if _may_run(scope)}

    def _list_made(self, node: ast.AST) -> list[Scope]:
        """What a part of a value at module level names."""
        return self.list_named(self.index.module, node) if isinstance(node, ast.Name | ast.Attribute) else []

    def _iter_constructors(self) -> Iterator[Scope]:
        """What builds the instances of the classes that run attention code, by methods of their own or inherited."""
        for owner in self.index.iter_classes():
            inits = owner.find_own_methods("__init__")
            entries = (entry for name in CALL_ENTRIES for entry in find_methods_of(self.index, owner, name))
            if inits and any(entry in self.active for entry in entries):
                yield from inits

    def _is_entry_point(self, scope: Scope) -> bool:
        if (
            is_device_kernel(scope)
            or scope.parent is None
            or attention_names.is_test_name(scope.name)
            or _is_in_test(scope)
        ):
            return False
        if is_fake_kernel(scope):
            return False
        if scope.parent.kind == "class":
            return self._is_entry_method(scope, scope.parent)
        if self.runs_attention(scope):
            return True
        if attention_names.is_attention_function_name(scope.name) and scope.parameters:
            return True
        return takes_attention_function(scope) and makes_attention(scope)

    def _is_entry_method(self, scope: Scope, owner: Scope) -> bool:
        if is_autograd_function(self.index, owner):
            return scope.name in FUNCTION_ENTRIES and self.is_attention_function(owner)
        if scope.name in CALL_ENTRIES and self.is_attention_class(owner):
            return True
        if scope.name in (*CALL_ENTRIES, *MESSAGE_STEPS) and self._attends_to_neighbours(owner):
            return True
        if scope.name in (*CALL_ENTRIES, *MULTIHEAD_STEPS) and inherits_from(self.index, owner, MULTIHEAD):
            return True
        return self.runs_attention(scope)

    def runs_attention(self, scope: Scope) -> bool:
        """Whether a function computes attention, or takes q, k and v to do so, and for its result's sake."""
        if self.computes_attention(scope):
            return not looks_on(scope)
        return attention_names.takes_qkv(scope.parameters) and not handles_tensors(scope) and not looks_on(scope)

    def _attends_to_neighbours(self, owner: Scope) -> bool:
        """Whether a class weighs the messages of a graph's edges by a softmax, in whichever method."""
        return passes_messages(self.index, owner) and any(
            normalises_scores(child) for child in owner.children if child.kind == "function"
        )

    def computes_attention(self, scope: Scope) -> bool:
        """Whether a function computes attention by its own code, or multiplies the weights that another made."""
        if scope not in self._computing:
            self._computing[scope] = (
                has_attention_code(scope)
                or weighs_values(self.index, scope)
                or writes_memory(scope)
                or self._multiplies_weights(scope)
                or self._calls_multihead(scope)
            )
        return self._computing[scope]

    def _multiplies_weights(self, scope: Scope) -> bool:
        if self._weights.isdisjoint(self.list_mentions(scope) if self._weights else ()):
            return False
        return multiplies_results(
            scope, {call for call in scope.select_nodes(ast.Call) if self._runs_weights(scope, call.func)}
        )

    def _runs_weights(self, scope: Scope, callee: ast.expr) -> bool:
        nodes, instance = ast.walk(callee), find_instance(scope)
        names: set[tuple[str, str | None]] = set()
        return any(
            found in self._weights for node in nodes for found in self._resolve_mention(scope, node, instance, names)
        )

    def _calls_multihead(self, scope: Scope) -> bool:
        """Whether a method calls a submodule of its instance that is PyTorch's multi-head attention."""
        instance = get_self_name(scope)
        if instance is None or scope.parent is None:
            return False
        owners = get_lineage(self.index, scope.parent)
        members = {f"{instance}.{name}" for owner in owners for name in self._get_multihead_members(owner)}
        return bool(members) and any(get_dotted_name(call.func) in members for call in scope.select_nodes(ast.Call))

    def _get_multihead_members(self, owner: Scope) -> set[str]:
        if owner not in self._multihead:
            self._multihead[owner] = find_multihead_members(owner)
        return self._multihead[owner]

    def is_attention_class(self, owner: Scope) -> bool:
        """Whether calling an instance of this class computes attention."""
        if not _FOREIGN_FRAMEWORKS.isdisjoint(base.partition(".")[0] for base in get_bases(owner)):
            return False
        if attention_names.is_attention_class_name(owner.name):
            return True
        if self._attends_to_neighbours(owner):
            return True
        entries = [entry for name in CALL_ENTRIES for entry in find_methods_of(self.index, owner, name)]
        return any(attention_names.takes_qkv(entry.parameters) or self.computes_attention(entry) for entry in entries)

    def is_attention_function(self, owner: Scope) -> bool:
        """Whether an ``autograd.Function`` computes attention."""
        forwards = find_methods_of(self.index, owner, "forward")
        if any(attention_names.takes_qkv(entry.parameters) or self.computes_attention(entry) for entry in forwards):
            return True
        return attention_names.is_attention_class_name(owner.name) or any(
            attention_names.takes_packed(entry.parameters) and attention_names.names_attention(owner.symbol)
            for entry in forwards
        )


def _may_run(caller: Scope) -> bool:
    """Whether a function that runs attention does so for its result's sake."""
    return caller.name in CALL_ENTRIES or not looks_on(caller)


def _is_in_test(scope: Scope) -> bool:
    outer = scope.find_enclosing("function")
    return outer is not None and attention_names.is_test_name(outer.name)


def takes_attention_function(scope: Scope) -> bool:
    """Whether a function has a parameter for an attention function."""
    return not attention_names.FUNCTION_PARAMETERS.isdisjoint(scope.parameters)


def makes_attention(scope: Scope) -> bool:
    """Whether a function returns an attention function: a nested one, or a lambda, that takes q, k and v."""
    if any(child.kind == "function" and attention_names.takes_qkv(child.parameters) for child in scope.children):
        return True
    if any(
        isinstance(node, ast.Lambda) and attention_names.takes_qkv(_list_lambda_parameters(node))
        for node in scope.nodes
    ):
        return True
    return not attention_names.ATTENTION_PARAMETERS.isdisjoint(scope.parameters) and attention_names.names_attention(
        scope.name
    )


def _list_lambda_parameters(node: ast.Lambda) -> list[str]:
    return [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]


def looks_on(scope: Scope) -> bool:
    """Whether a function that computes attention does so to measure, draw or train it."""
    if attention_names.is_attention_function_name(scope.name):
        return False
    return attention_names.is_observer_name(scope.name) or _returns_numbers(scope) or _trains(scope)


def handles_tensors(scope: Scope) -> bool:
    """Whether a function that takes q, k and v, and computes no attention by what its file tells, only handles them."""
    if attention_names.names_attention(scope.name):
        return False
    owner = scope.parent
    keeps = owner is not None and owner.kind == "class" and attention_names.keeps_tensors(owner.name)
    return (
        keeps
        or attention_names.is_preparation_name(scope.name)
        or attention_names.is_observer_name(scope.name)
        or not returns_value(scope)
        or is_switched_off(scope)
    )


def _trains(scope: Scope) -> bool:
    """Whether a function steps an optimiser."""
    called = {call.func.attr for call in scope.select_nodes(ast.Call) if isinstance(call.func, ast.Attribute)}
    return "backward" in called and not called.isdisjoint(_TRAINING)


def _returns_numbers(scope: Scope) -> bool:
    """Whether all that a function returns is numbers, or arrays that are no tensors."""
    returned = [node.value for node in scope.select_nodes(ast.Return) if node.value is not None]
    return bool(returned) and all(_is_number(scope, value, frozenset()) for value in returned)


def _is_number(scope: Scope, value: ast.expr, seen: frozenset[str]) -> bool:
    if isinstance(value, ast.Tuple | ast.List | ast.Set):
        return bool(value.elts) and all(_is_number(scope, part, seen) for part in value.elts)
    if isinstance(value, ast.Dict):
        return bool(value.values) and all(_is_number(scope, part, seen) for part in value.values)
    if isinstance(value, ast.UnaryOp):
        return _is_number(scope, value.operand, seen)
    if isinstance(value, ast.BinOp):
        return _is_number(scope, value.left, seen) and _is_number(scope, value.right, seen)
    if isinstance(value, ast.Call):
        return get_callee_name(value) in _NUMBERS
    if isinstance(value, ast.Name) and value.id not in seen:
        assigned = get_values(scope, value.id)
        return bool(assigned) and all(_is_number(scope, given, seen | {value.id}) for given in assigned)
    return isinstance(value, ast.Constant | ast.JoinedStr)
