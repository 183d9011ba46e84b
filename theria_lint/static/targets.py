"""Find the targets of a file: attention callables that can be run."""

from __future__ import annotations

import ast
from collections.abc import Collection, Container, Iterable, Iterator
from functools import cached_property
from itertools import pairwise

from theria_lint.model import Target, TargetKind
from theria_lint.sources.source_text import parse_python
from theria_lint.static import attention_names
from theria_lint.static.attention_code import AttentionCode, makes_attention, takes_attention_function
from theria_lint.static.bound_names import find_bound_attention, find_bound_candidates, find_inner_attention
from theria_lint.static.class_lineage import (
    CALL_ENTRIES,
    FUNCTION_ENTRIES,
    MULTIHEAD,
    WITHOUT_INSTANCE,
    find_methods_of,
    get_bases,
    get_lineage,
    inherits_from,
    is_autograd_function,
    is_instance_method,
    is_torch_module,
)
from theria_lint.static.dataflow import collect_assigned_attributes
from theria_lint.static.foreign_uses import list_foreign_bases, may_be_resolved
from theria_lint.static.gradient_calls import takes_gradients
from theria_lint.static.registered_ops import is_fake_kernel
from theria_lint.static.scopes import (
    ModuleIndex,
    Scope,
    build_index,
    get_dotted_name,
    get_self_name,
    is_device_kernel,
    is_super,
)
from theria_lint.static.spare_methods import find_spare_methods

_ABSTRACT_BASES = frozenset({"ABC", "Protocol"})
_READ = frozenset({"property", "cached_property", "setter", "abstractmethod"})
_HALVES = frozenset({"bwd"})
_PERHAPS_HALVES = frozenset({"backward", "grad", "vjp", "jvp"})
"""What a half may be named after; so may attention that cuts its graph (``no_grad_attention``), which takes no more
than q, k and v."""
# What the annotation of a tensor says, or of what may hold one or give one, in lower case.
_TENSOR_TYPES = ("tensor", "array", "any", "callable", "module", "batch", "data")
_SWITCHES = frozenset({"no", "enable", "disable", "set", "stop", "without", "requires"})


def find_targets(path: str, source: str, named: Collection[str] = ()) -> tuple[Target, ...]:
    """The targets of a file in source order; where a name is defined twice, the last one, which an import gives.

    ``named``: the symbols that the user calls targets.
    """
    return tuple(target for target in find_targets_and_candidates(path, source, named) if not target.needs)


def find_targets_and_candidates(
    path: str, source: str, named: Collection[str] = (), tokens: Collection[str] = ()
) -> tuple[Target, ...]:
    """`find_targets`, and what is a target if something of another file attends; ``tokens``: names that rules list."""
    finder = _TargetFinder(build_index(parse_python(source)), frozenset(tokens))
    found = {symbol: (scope, kind) for symbol, scope, kind in finder.iter_named(named)}
    found |= {symbol: (scope, kind) for symbol, scope, kind in finder.iter_targets()}
    targets = [finder.make_target(path, scope, kind) for scope, kind in found.values()]
    targets += [
        finder.make_target(path, scope, kind, needs)
        for symbol, scope, kind, needs in finder.iter_candidates()
        if symbol not in found
    ]
    return tuple(sorted(targets, key=lambda target: (target.line, target.symbol)))


def find_closures(source: str) -> list[str]:
    """The symbols of attention that functions of a file return: only a recorded call tells how to make one."""
    tree = parse_python(source)
    if not any(isinstance(part, ast.FunctionDef) for node in tree.body for part in getattr(node, "body", ())):
        return []
    finder = _TargetFinder(build_index(tree))
    attention = frozenset(finder.attention.entry_points)
    makers = [scope for scope in finder.index.module.children if scope.kind == "function"]
    return [scope.symbol for maker in makers for scope in find_inner_attention(attention, maker)]


class _TargetFinder:
    """Looks at each function and class at the top of a module."""

    def __init__(self, index: ModuleIndex, tokens: frozenset[str] = frozenset()) -> None:
        self.index = index
        self._tokens = tokens
        self.attention = AttentionCode(index)
        self._running = frozenset(self.attention.callers)
        self._constructors: dict[Scope, list[str]] = {}

    def iter_targets(self) -> Iterator[tuple[str, Scope, TargetKind]]:
        for scope in self.index.module.children:
            kind = self._classify(scope, self._running)
            if kind is not None:
                yield scope.symbol, scope, kind
            if scope.kind == "class" and not is_autograd_function(self.index, scope):
                yield from self._iter_methods(scope)
                yield from ((method.symbol, method, TargetKind.MODULE) for method in self._list_spare_methods(scope))
            elif kind is None and scope.kind == "function":
                yield from self._iter_returned(scope)
        known = {scope.name for scope in self.index.module.children}
        for name, node in find_bound_attention(self.attention, frozenset(self.attention.entry_points)):
            if name not in known:
                yield name, self._make_bound_scope(name, node), TargetKind.FUNCTION

    def _iter_returned(self, maker: Scope) -> Iterator[tuple[str, Scope, TargetKind]]:
        """The functions of q, k and v that a function returns, unless it is given functions itself."""
        if takes_attention_function(maker) or attention_names.is_test_name(maker.name):
            return
        found = find_inner_attention(frozenset(self.attention.entry_points), maker)
        made = [scope for scope in found if scope not in self._running and attention_names.takes_qkv(scope.parameters)]
        yield from ((scope.symbol, scope, TargetKind.FUNCTION) for scope in made)

    def iter_candidates(self) -> Iterator[tuple[str, Scope, TargetKind, frozenset[str]]]:
        """What is a target if something of another file attends, with the imports that may."""
        dependent = self.attention.find_dependent_callers()
        for scope in self.index.module.children:
            entries = find_methods_of(self.index, scope, "forward") if scope.kind == "class" else [scope]
            if entries:
                needs = frozenset[str]().union(*(dependent.get(entry, ()) for entry in entries))
                kind = self._classify(scope, dependent) if needs else None
            else:
                needs = frozenset(self._list_foreign_bases(scope))
                kind = TargetKind.MODULE if needs and not self._is_abstract(scope) else None
            if kind is not None:
                yield scope.symbol, scope, kind, needs
        for name, node, needs in find_bound_candidates(self.attention):
            yield name, self._make_bound_scope(name, node), TargetKind.FUNCTION, needs

    def _list_foreign_bases(self, scope: Scope) -> list[str]:
        """The imports from which a class may have its forward, unless it is named after something else."""
        if attention_names.is_bystander_name(scope.name) or find_methods_of(self.index, scope, "__call__"):
            return []
        return list(filter(may_be_resolved, list_foreign_bases(self.index, scope)))

    def iter_named(self, symbols: Collection[str]) -> Iterator[tuple[str, Scope, TargetKind]]:
        """What the module defines under some names, whatever it is."""
        for scope in self.index.scopes if symbols else ():
            if scope.symbol in symbols:
                yield scope.symbol, scope, self._tell_kind(scope)
        for node in self.index.module.select_nodes(ast.Assign) if symbols else ():
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id in symbols and not isinstance(node.value, ast.Lambda):
                    yield target.id, self._make_bound_scope(target.id, node), TargetKind.FUNCTION

    def _tell_kind(self, scope: Scope) -> TargetKind:
        if scope.kind == "class" and is_autograd_function(self.index, scope):
            return TargetKind.AUTOGRAD_FUNCTION
        owner = scope.parent if is_instance_method(scope) else scope
        of_module = owner is not None and owner.kind == "class" and is_torch_module(self.index, owner)
        return TargetKind.MODULE if of_module else TargetKind.FUNCTION

    def _make_bound_scope(self, name: str, node: ast.Assign | ast.AnnAssign) -> Scope:
        """A scope for what the module assigns to a name, which is called by it."""
        module = self.index.module
        assert node.value is not None
        return Scope("name", name, name, node, module.names, module, nodes=list(ast.walk(node.value)))

    def _iter_methods(self, owner: Scope) -> Iterator[tuple[str, Scope, TargetKind]]:
        """The functions that a class holds: methods that need no instance, and of what is no module any of q, k, v."""
        built = self._is_plain_class(owner) and self._classify_class(owner, self._running) is None
        for method in owner.children:
            if method.kind == "class":
                yield from self._iter_methods(method)
            elif method.kind == "function" and (
                any(get_dotted_name(decorator) in WITHOUT_INSTANCE for decorator in method.decorators)
                or (built and _is_called_by_name(method) and attention_names.takes_qkv(method.parameters))
            ):
                kind = self._classify_function(method, self._running)
                if kind is not None:
                    yield method.symbol, method, kind

    def _list_spare_methods(self, owner: Scope) -> list[Scope]:
        """The methods of a module that are targets beside its forward."""
        if not is_torch_module(self.index, owner) or self._is_abstract(owner) or _is_test_code(owner):
            return []
        methods = [child for child in owner.children if is_instance_method(child) and _is_called_by_name(child)]
        return find_spare_methods(self.index, self.attention, owner, filter(_list_required_parameters, methods))

    def _is_plain_class(self, owner: Scope) -> bool:
        """Whether the file says all that a class is, and that it is neither a module nor abstract."""
        bases = {base for line in get_lineage(self.index, owner) for base in get_bases(line)}
        return bases <= {"object", *self.index.by_name} and not self._is_abstract(owner) and not _is_test_code(owner)

    def make_target(self, path: str, scope: Scope, kind: TargetKind, needs: frozenset[str] = frozenset()) -> Target:
        code = self.attention.collect_reachable(self._list_entry_methods(scope, kind)) - {scope}
        symbols = self.attention.collect_variables((scope, *code))
        owner = scope.parent if kind is TargetKind.MODULE and scope.kind == "function" else None
        symbols |= {reached.symbol for reached in code} | {scope.symbol}
        symbols |= self._collect_constructors(owner or scope, code)
        assert isinstance(scope.node, ast.stmt | ast.expr)
        left = frozenset(self._iter_left_to_bases(scope, code) if scope.kind == "class" else ())
        return Target(path, scope.node.lineno, scope.symbol, kind, frozenset(symbols), needs=needs, left_to_bases=left)

    def _iter_left_to_bases(self, scope: Scope, code: set[Scope]) -> Iterator[str]:
        """The methods with what a rule may find, which a base in another file may call, and its own file does not."""
        line = get_lineage(self.index, scope)
        methods = [child for owner in line for child in owner.children if child.kind == "function"]
        known = code | self.attention.active
        spare = [child for child in methods if child not in known and _may_be_called_on_heir(child)]
        left = [child.symbol for child in spare if not self._tokens.isdisjoint(_collect_names(child))]
        may = left and any(map(may_be_resolved, list_foreign_bases(self.index, scope)))
        if may and self._runs_base(scope, methods, code):
            yield from left

    def _runs_base(self, scope: Scope, methods: Collection[Scope], code: Collection[Scope]) -> bool:
        """Whether a class has its forward from another file, or calls a member of itself that it has from there."""
        if not any(find_methods_of(self.index, scope, name) for name in CALL_ENTRIES):
            return True
        own = {name for method in methods for name in collect_assigned_attributes(method)}
        return any(
            is_super(call.func.value)
            or (
                get_dotted_name(call.func.value) == get_self_name(method)
                and call.func.attr not in own
                and not self.attention.resolves_member(scope, call.func.attr)
            )
            for method in methods
            if method in code
            for call in method.select_nodes(ast.Call)
            if isinstance(call.func, ast.Attribute)
        )

    def _list_entry_methods(self, scope: Scope, kind: TargetKind) -> list[Scope]:
        if scope.kind in ("function", "name"):
            return [scope]
        names = FUNCTION_ENTRIES if kind is TargetKind.AUTOGRAD_FUNCTION else CALL_ENTRIES
        return [entry for name in names for entry in find_methods_of(self.index, scope, name)]

    def _collect_constructors(self, scope: Scope, code: set[Scope]) -> set[str]:
        """The classes that take part, and their ``__init__``: a compiled or hooked forward is made there."""
        owners = {reached.parent for reached in code if reached.parent is not None and reached.parent.kind == "class"}
        if scope.kind == "class":
            owners |= set(get_lineage(self.index, scope))
        return {symbol for owner in owners for symbol in self._list_constructors(owner)}

    def _list_constructors(self, owner: Scope) -> list[str]:
        if owner not in self._constructors:
            self._constructors[owner] = [owner.symbol, *(init.symbol for init in owner.find_own_methods("__init__"))]
        return self._constructors[owner]

    def _classify(self, scope: Scope, running: Container[Scope]) -> TargetKind | None:
        """What a class or function is a target as, given which functions run attention."""
        classify = self._classify_class if scope.kind == "class" else self._classify_function
        return classify(scope, running)

    def _classify_function(self, scope: Scope, running: Container[Scope]) -> TargetKind | None:
        if (
            attention_names.is_test_name(scope.name)
            or is_device_kernel(scope)
            or is_fake_kernel(scope)
            or _is_overload(scope)
        ):
            return None
        if takes_attention_function(scope) and (makes_attention(scope) or attention_names.takes_qkv(scope.parameters)):
            return TargetKind.WRAPPER
        if not self._takes_attention_inputs(scope, running) or scope in self._derivative_halves:
            return None
        return TargetKind.FUNCTION

    def _takes_attention_inputs(self, scope: Scope, running: Container[Scope]) -> bool:
        if attention_names.takes_qkv(scope.parameters):
            return self.attention.runs_attention(scope)
        named, computes = (
            attention_names.is_attention_function_name(scope.name),
            self.attention.computes_attention(scope),
        )
        if attention_names.takes_packed(scope.parameters):
            return named or computes
        if scope in running:
            used = takes_gradients(scope) and not self.attention.active.isdisjoint(self.attention.find_naming(scope))
            takes = bool(_list_required_parameters(scope)) and _may_take_tensors(scope)
            return (takes or _is_wrapped_as_another(scope)) and not used
        # Of a latent, of the nodes of a graph, of pages: whatever it takes, it is attention by its code.
        offered = named or not scope.name.startswith("_")
        return computes and offered and bool(_list_required_parameters(scope))

    @cached_property
    def _derivative_halves(self) -> set[Scope]:
        """The functions that are a part of an ``autograd.Function``, which alone is not meant to be differentiated.

        Such are those that are named so, and those that nothing but such code calls, however many steps lie between.
        """
        functions = list(self.index.iter_functions())
        named = {scope for scope in functions if _is_half_by_itself(scope)}
        callers = {scope: self._list_real_callers(scope) for scope in functions if scope not in named}
        inside = [scope for scope, found in callers.items() if any(self._is_half(caller, named) for caller in found)]
        outside = [
            scope
            for scope, found in callers.items()
            if not found or any(not _is_plain(caller) and not self._is_half(caller, named) for caller in found)
        ]
        return named | (self._collect_called(inside, named) - self._collect_called(outside, named))

    def _collect_called(self, starts: Iterable[Scope], named: set[Scope]) -> set[Scope]:
        """Functions, and those that they call, through other functions: not through what is named a half."""
        reached: set[Scope] = set()
        stack = list(starts)
        while stack:
            scope = stack.pop()
            if scope not in reached and scope not in named:
                reached.add(scope)
                if _is_plain(scope) and not _is_test_code(scope):
                    stack.extend(found for found in self.attention.list_mentions(scope) if found is not scope)
        return reached

    def _list_real_callers(self, scope: Scope) -> list[Scope]:
        return [caller for caller in self.attention.find_naming(scope) if not _is_test_code(caller)]

    def _is_half(self, caller: Scope, named: set[Scope]) -> bool:
        """Whether a caller is a part of an ``autograd.Function`` by itself."""
        owner = caller.find_enclosing("class") if caller.kind != "module" else None
        if owner is not None:
            return is_autograd_function(self.index, owner)
        return caller in named

    def _is_backward_of_another(self, scope: Scope) -> bool:
        """Whether an ``autograd.Function`` runs in backwards only: its own second derivative is nobody's second."""
        forwards = find_methods_of(self.index, scope, "forward")
        callers = {caller for forward in forwards for caller in self._list_real_callers(forward)}
        callers = {caller for caller in callers if caller.find_enclosing("class") is not scope}
        return bool(callers) and all(self._is_backward(caller) for caller in callers)

    def _is_backward(self, scope: Scope) -> bool:
        owner = scope.find_enclosing("class") if scope.kind != "module" else None
        if owner is None:
            return scope.kind == "function" and scope in self._derivative_halves
        return is_autograd_function(self.index, owner) and scope.name in FUNCTION_ENTRIES and scope.name != "forward"

    def _classify_class(self, scope: Scope, running: Container[Scope]) -> TargetKind | None:
        if self._is_abstract(scope):
            return None
        if is_autograd_function(self.index, scope):
            # One without a backward is run too: whoever trains with it should know.
            is_target = self.attention.is_attention_function(scope)
            return TargetKind.AUTOGRAD_FUNCTION if is_target and not self._is_backward_of_another(scope) else None
        if inherits_from(self.index, scope, MULTIHEAD):
            return TargetKind.MODULE
        forwards = find_methods_of(self.index, scope, "forward")
        if forwards:
            attends = self.attention.is_attention_class(scope) or self._attends_in_method(scope)
            attends = attends or any(forward in running for forward in forwards)
            return TargetKind.MODULE if is_torch_module(self.index, scope) and attends else None
        if self._inherits_attention(scope):
            return TargetKind.MODULE
        called = find_methods_of(self.index, scope, "__call__")
        attends = any(
            attention_names.takes_qkv(found.parameters) or self.attention.computes_attention(found) for found in called
        )
        return TargetKind.FUNCTION if attends else None

    def _attends_in_method(self, scope: Scope) -> bool:
        """Whether a forward runs a method of its own instance that computes attention."""
        line, methods = (
            get_lineage(self.index, scope),
            self.attention.collect_reachable(find_methods_of(self.index, scope, "forward")),
        )
        return any(method.parent in line and method in self.attention.entry_points for method in methods)

    def _inherits_attention(self, scope: Scope) -> bool:
        """Whether a class changes attention of another file: it or its base is named so, and its methods run some."""
        last = (base.rpartition(".")[2] for base in get_bases(scope))
        methods = [child for child in scope.children if child.name != "__call__"]
        if any(map(attention_names.is_attention_class_name, last)) and not self.attention.active.isdisjoint(methods):
            return True
        named = attention_names.is_attention_class_name(scope.name) and bool(self._list_foreign_bases(scope))
        return named and any(map(self.attention.leads_to_attention, methods))

    def _is_abstract(self, scope: Scope) -> bool:
        assert isinstance(scope.node, ast.ClassDef)
        if any((get_dotted_name(base) or "").rpartition(".")[2] in _ABSTRACT_BASES for base in scope.node.bases):
            return True
        if any(_is_abstract_method(child) for child in scope.children):
            return True
        forwards = find_methods_of(self.index, scope, "forward")
        return bool(forwards) and all(_only_raises(forward) for forward in forwards)


def _may_be_called_on_heir(method: Scope) -> bool:
    """Whether a method may be one that a base runs to compute something."""
    return not method.name.startswith("__") and not attention_names.is_bystander_name(method.name)


def _collect_names(scope: Scope) -> set[str]:
    """The names and attributes that a function's own code and its decorators mention."""
    nodes = (*scope.header, *scope.nodes)
    found = {node.id for node in nodes if isinstance(node, ast.Name)}
    return found | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def _is_half_by_itself(scope: Scope) -> bool:
    """Whether a function takes a cotangent, or is named as one that does."""
    takes = any(attention_names.COTANGENTS.match(parameter.lower()) for parameter in scope.parameters)
    return takes or _is_half_name(scope)


def _is_plain(scope: Scope) -> bool:
    """Whether this is a function that is in no class."""
    return scope.kind == "function" and scope.find_enclosing("class") is None


def _is_half_name(scope: Scope) -> bool:
    """Whether the name of a function is that of a backward; one that may only be about it takes more than q, k, v."""
    said = attention_names.split_words(scope.name)
    if not _HALVES.isdisjoint(said):
        return True
    perhaps = [before for before, word in pairwise(["", *said]) if word in _PERHAPS_HALVES]
    return any(before not in _SWITCHES for before in perhaps) and any(
        attention_names.get_role(parameter) is None for parameter in _list_required_parameters(scope)
    )


def _list_required_parameters(scope: Scope) -> list[str]:
    """The parameters by position that have no default."""
    assert isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    arguments = scope.node.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    required = positional[: len(positional) - len(arguments.defaults)]
    return [name for name in required if name not in ("self", "cls", "ctx")]


def _is_wrapped_as_another(scope: Scope) -> bool:
    """Whether a function is said to take what another takes: ``@functools.wraps(attention)``."""
    calls = (decorator for decorator in scope.decorators if isinstance(decorator, ast.Call))
    return any("functools.wraps" in scope.names.resolve_node(call.func) for call in calls)


def _may_take_tensors(scope: Scope) -> bool:
    """Whether a parameter may be a tensor, or hold some: builders of models say of all of theirs that they are not."""
    assert isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    arguments = scope.node.args
    found = [argument.annotation for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    said = [ast.unparse(annotation).lower() for annotation in found if annotation is not None]
    return len(said) < len(found) or any(word in text for text in said for word in _TENSOR_TYPES)


def _is_abstract_method(scope: Scope) -> bool:
    return any((get_dotted_name(decorator) or "").endswith("abstractmethod") for decorator in scope.decorators)


def _is_called_by_name(method: Scope) -> bool:
    """Whether a method is one that is called on an instance: none that Python calls, no property."""
    return not method.name.startswith("__") and not any(
        (get_dotted_name(decorator) or "").rpartition(".")[2] in _READ for decorator in method.decorators
    )


def _is_overload(scope: Scope) -> bool:
    return any(
        (get_dotted_name(decorator) or "").endswith("overload") for decorator in scope.decorators
    ) or _only_raises(scope)


def _only_raises(scope: Scope) -> bool:
    """Whether a function does nothing but raise ``NotImplementedError`` or stand for one (``...``, ``pass``)."""
    if scope.kind != "function":
        return False
    if isinstance(scope.node, ast.Lambda):
        return False
    body = [node for node in scope.function.body if not _is_docstring(node)]
    return all(isinstance(node, ast.Raise | ast.Pass) for node in body)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_test_code(scope: Scope) -> bool:
    current: Scope | None = scope
    while current is not None:
        if attention_names.is_test_name(current.name) or current.name.startswith("Test"):
            return True
        current = current.parent
    return False
