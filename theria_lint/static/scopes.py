"""Index a module in one walk: its scopes, their names, nodes and parents."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

# What these return does what their first argument does.
WRAPPERS = frozenset({"functools.partial", "torch.compile", "torch.jit.script"})
# What these return is a module of compiled code.
LOADERS = frozenset({"torch.utils.cpp_extension.load", "torch.utils.cpp_extension.load_inline"})


def get_dotted_name(node: ast.AST) -> str | None:
    """``a.b.c`` of a chain of attributes on a name, None for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    parts.append(node.id)
    return ".".join(reversed(parts))


# Of one name, and of modules that everything is imported from. Each use of a name is all that it may stand for: of more
# a name tells nothing, and the time would grow with the square. Real ones have a tenth.
MOST_MEANINGS = 100


class NameTable:
    """The names bound in one scope, with the enclosing scope's table behind it."""

    def __init__(self, parent: NameTable | None = None, shadowed: Iterable[str] = ()) -> None:
        self.parent = parent
        self.bound: dict[str, set[str]] = {name: set() for name in shadowed}
        self.stars: list[str] = []

    def bind_names(self, statement: ast.AST) -> None:
        """Take in what an import or a simple assignment binds; anything else is passed over."""
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                self._bind_import(alias)
        elif isinstance(statement, ast.ImportFrom):
            self._bind_import_from(statement)
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            self._bind_assignment(statement.targets[0], statement.value)

    def _bind_import(self, alias: ast.alias) -> None:
        if alias.asname:
            self._add_path(alias.asname, alias.name)
        else:
            root = alias.name.partition(".")[0]
            self._add_path(root, root)

    def _bind_import_from(self, statement: ast.ImportFrom) -> None:
        module = "." * statement.level + (statement.module or "")
        for alias in statement.names:
            if alias.name == "*":
                if len(self.stars) < MOST_MEANINGS and module not in self.stars:
                    self.stars.append(module)
            else:
                self._add_path(alias.asname or alias.name, _join_member(module, alias.name))

    def _bind_assignment(self, target: ast.AST, value: ast.AST) -> None:
        if isinstance(target, ast.Name):
            for candidate in iter_alternatives(value):
                for meaning in self._resolve_value(candidate, target.id):
                    self._add_path(target.id, meaning)

    def _resolve_value(self, value: ast.AST, name: str) -> Iterable[str]:
        """What a name stands for that is assigned a value: a compiled or partly applied function is that function."""
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name | ast.Attribute):
            callee = self.resolve_node(value.func)
            if not LOADERS.isdisjoint(callee):
                return callee
            if WRAPPERS.isdisjoint(callee) or not value.args:
                return ()
            value = value.args[0]
        path = get_dotted_name(value)
        return self.resolve_path(path) if path is not None and path != name else ()

    def _add_path(self, name: str, path: str) -> None:
        meanings = self.bound.setdefault(name, set())
        if len(meanings) < MOST_MEANINGS:
            meanings.add(path)

    def resolve_path(self, path: str | None) -> tuple[str, ...]:
        """Every dotted path that ``path`` may stand for, sorted; empty when its root is not an imported name."""
        if path is None:
            return ()
        root, dot, rest = path.partition(".")
        meanings = self._resolve_root(root)
        return tuple(sorted(meaning + dot + rest for meaning in meanings)) if meanings else ()

    def _resolve_root(self, root: str) -> Collection[str]:
        table: NameTable | None = self
        while table is not None:
            if root in table.bound:
                return table.bound[root]
            table = table.parent
        return [_join_member(module, root) for module in self._iter_star_modules()]

    def _iter_star_modules(self) -> Iterator[str]:
        table: NameTable | None = self
        while table is not None:
            yield from table.stars
            table = table.parent

    def resolve_node(self, node: ast.AST) -> tuple[str, ...]:
        """`resolve_path` of an expression; a chain on anything but a name has no meaning here."""
        return self.resolve_path(get_dotted_name(node))


def _join_member(module: str, name: str) -> str:
    """The path of a module's member: ``.name`` of ``from . import name``, as ``..name`` is of the folder above."""
    return module + name if module.endswith(".") else f"{module}.{name}"


def iter_alternatives(value: ast.AST) -> Iterator[ast.AST]:
    """The expressions that an assignment may bind: both arms of ``a if c else b``, both sides of ``a or b``."""
    if isinstance(value, ast.IfExp):
        yield from iter_alternatives(value.body)
        yield from iter_alternatives(value.orelse)
    elif isinstance(value, ast.BoolOp):
        for part in value.values:
            yield from iter_alternatives(part)
    else:
        yield value


_Node = TypeVar("_Node", bound=ast.AST)
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# Fields that hold no expression or statement, or one that is not run.
_SKIPPED_FIELDS = frozenset(
    {"ctx", "op", "ops", "id", "attr", "arg", "name", "names", "module", "level", "annotation", "returns", "simple"}
    | {"type_comment", "type_params", "is_async", "conversion", "kind", "kwd_attrs", "cls", "rest"}
)
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Lambda: ("body",),
    ast.Constant: (),
    ast.MatchSingleton: (),
    ast.Global: (),
    ast.Nonlocal: (),
}
_DEFINING = frozenset(_DEFINITIONS)
_LAMBDA_BINDERS = frozenset({ast.Assign, ast.AnnAssign})
_BINDING = frozenset({ast.Import, ast.ImportFrom, ast.Assign})
# The nodes that somebody asks a scope for.
_KEPT_NODES = frozenset(
    {ast.Name, ast.Attribute, ast.Call, ast.BinOp, ast.Lambda, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr}
    | {ast.Return, ast.Yield, ast.For, ast.comprehension}
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SWITCHES = ("no_grad", "inference_mode")
_DEVICE_COMPILERS = (
    "triton.jit",
    "triton.autotune",
    "triton.heuristics",
    "numba.",
    "cutlass.",
    "cute.",
    "tilelang.",
    "T.prim_func",
)


@dataclass(eq=False, slots=True)
class Scope:
    """A module, class or function: the nodes of its own, and the scopes directly inside it.

    ``header`` holds the nodes of its decorators, whose names mean what they mean in ``parent``.
    ``bases`` and ``line`` are a class's, ``assigned`` what `dataflow.get_assignments` finds and ``values`` the same by
    name, once somebody has asked for them.
    """

    kind: str
    name: str
    symbol: str
    node: ast.AST
    names: NameTable
    parent: Scope | None = None
    children: list[Scope] = field(default_factory=list)
    nodes: list[ast.AST] = field(default_factory=list)
    header: list[ast.AST] = field(default_factory=list)
    parameters: tuple[str, ...] = ()
    bases: tuple[str, ...] | None = None
    line: list[Scope] | None = None
    assigned: list[tuple[list[str], ast.expr]] | None = None
    values: dict[str, list[ast.expr]] | None = None
    _by_name: dict[str, list[Scope]] | None = None
    _by_kind: dict[type[ast.AST], list[ast.AST]] | None = None

    @property
    def function(self) -> FunctionNode:
        """The node of the scope of a function that is no lambda."""
        assert isinstance(self.node, _FUNCTIONS)
        return self.node

    @property
    def decorators(self) -> list[ast.expr]:
        """The decorators of a function or class, outermost first."""
        return self.node.decorator_list if isinstance(self.node, _DEFINITIONS) else []

    def select_nodes(self, kind: type[_Node]) -> list[_Node]:
        """The nodes of one kind, in the order of ``nodes``."""
        if self._by_kind is None:
            self._by_kind = {}
            for node in self.nodes:
                self._by_kind.setdefault(type(node), []).append(node)
        return cast("list[_Node]", self._by_kind.get(kind, []))

    def find_enclosing(self, kind: str) -> Scope | None:
        """The nearest scope of this kind around this one, itself excluded."""
        scope = self.parent
        while scope is not None and scope.kind != kind:
            scope = scope.parent
        return scope

    def defined(self, name: str) -> list[Scope]:
        """The functions and classes of this name directly inside the scope."""
        if self._by_name is None:
            self._by_name = {}
            for child in self.children:
                self._by_name.setdefault(child.name, []).append(child)
        return self._by_name.get(name, [])

    def find_own_methods(self, name: str) -> list[Scope]:
        """The functions of this name directly inside the scope."""
        return [child for child in self.defined(name) if child.kind == "function"]

    def walk_scopes(self) -> Iterator[Scope]:
        """This scope and all within it."""
        stack = [self]
        while stack:
            scope = stack.pop()
            yield scope
            stack.extend(reversed(scope.children))


@dataclass(slots=True)
class ModuleIndex:
    """The scopes of a module in source order, and the parent of every node."""

    module: Scope
    scopes: list[Scope]
    parents: dict[ast.AST, ast.AST]
    by_name: dict[str, list[Scope]]
    _called: frozenset[str | None] | None = None

    def called(self) -> frozenset[str | None]:
        """The dotted names of all that the module calls."""
        if self._called is None:
            self._called = frozenset(
                get_dotted_name(call.func) for scope in self.scopes for call in scope.select_nodes(ast.Call)
            )
        return self._called

    def iter_functions(self) -> Iterator[Scope]:
        """Every function, nested ones and methods included."""
        return (scope for scope in self.scopes if scope.kind == "function")

    def iter_classes(self) -> Iterator[Scope]:
        """Every class."""
        return (scope for scope in self.scopes if scope.kind == "class")

    def iter_ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around a node, from its parent up to the module."""
        parent = self.parents.get(node)
        while parent is not None:
            yield parent
            parent = self.parents.get(parent)

    def find_statement(self, node: ast.AST) -> ast.stmt:
        """The innermost statement that holds a node, or that the node is."""
        current: ast.AST | None = node
        while not isinstance(current, ast.stmt):
            assert current is not None
            current = self.parents.get(current)
        return current


# Children to visit, the scope that they belong to, and its list that they go into.
_ChildNodes = tuple[Sequence[ast.AST], Scope, list[ast.AST]]


def build_index(tree: ast.Module) -> ModuleIndex:
    """Index a module. Walks with a stack of its own: a deep expression must not exhaust Python's."""
    module = Scope("module", "", "", tree, NameTable())
    scopes = [module]
    stack: list[tuple[ast.AST, Scope, list[ast.AST]]] = [(child, module, module.nodes) for child in reversed(tree.body)]
    parents: dict[ast.AST, ast.AST] = dict.fromkeys(tree.body, tree)
    while stack:
        node, scope, nodes = stack.pop()
        kind = type(node)
        if kind in _KEPT_NODES:
            nodes.append(node)
        if kind in _DEFINING:
            assert isinstance(node, _DEFINITIONS)
            inner = _enter_definition(node, scope)
            scopes.append(inner)
            parts: list[_ChildNodes] = [(node.body, inner, inner.nodes), (node.decorator_list, scope, inner.header)]
            parts.append((_list_outer_expressions(node), scope, nodes))
            for children, owner, target in parts:
                for child in reversed(children):
                    parents[child] = node
                    stack.append((child, owner, target))
        elif kind in _LAMBDA_BINDERS and scope.kind != "function" and (named := _find_named_lambda(node)) is not None:
            inner = _enter_lambda(*named, scope)
            scopes.append(inner)
            nodes.append(named[1])
            parents[named[1]] = node
            parents[named[1].body] = named[1]
            stack.append((named[1].body, inner, inner.nodes))
        elif kind is not ast.JoinedStr:  # what becomes text influences no gradient
            if kind in _BINDING:
                scope.names.bind_names(node)
            for child in reversed(_iter_own_children(node)):
                parents[child] = node
                stack.append((child, scope, nodes))
    by_name: dict[str, list[Scope]] = {}
    for scope in scopes[1:]:
        by_name.setdefault(scope.name, []).append(scope)
    return ModuleIndex(module, scopes, parents, by_name)


def _iter_own_children(node: ast.AST) -> list[ast.AST]:
    """The children worth a visit: annotations mention types, operators and constants say nothing."""
    kind = type(node)
    fields = _FIELDS.get(kind)
    if fields is None:
        fields = _FIELDS[kind] = tuple(name for name in kind._fields if name not in _SKIPPED_FIELDS)
    children: list[ast.AST] = []
    for name in fields:
        value = getattr(node, name, None)
        if value.__class__ is list:
            children += [item for item in value if item is not None and item.__class__ is not ast.Constant]
        elif value is not None and value.__class__ is not ast.Constant:
            children.append(value)
    return children


def _list_outer_expressions(node: ast.AST) -> list[ast.expr]:
    """What of a definition, its decorators apart, is evaluated in the scope around it."""
    if isinstance(node, ast.ClassDef):
        return [*node.bases, *(keyword.value for keyword in node.keywords)]
    assert isinstance(node, _FUNCTIONS)
    return [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]


def _enter_definition(node: ast.AST, scope: Scope) -> Scope:
    assert isinstance(node, _DEFINITIONS)
    if isinstance(node, _FUNCTIONS):
        return _make_inner_scope(scope, "function", node.name, node, list_parameter_names(node.args))
    return _make_inner_scope(scope, "class", node.name, node, ())


def _enter_lambda(name: str, node: ast.Lambda, scope: Scope) -> Scope:
    return _make_inner_scope(scope, "function", name, node, list_parameter_names(node.args))


def _make_inner_scope(scope: Scope, kind: str, name: str, node: ast.AST, parameters: tuple[str, ...]) -> Scope:
    """A new scope inside another."""
    symbol = f"{scope.symbol}.{name}" if scope.symbol else name
    # Names bound in a class body are not seen by its methods.
    around = scope.names if scope.kind != "class" or scope.names.parent is None else scope.names.parent
    inner = Scope(kind, name, symbol, node, NameTable(around, shadowed=parameters), scope, parameters=parameters)
    scope.children.append(inner)
    return inner


def _find_named_lambda(node: ast.AST) -> tuple[str, ast.Lambda] | None:
    """The name and the lambda of ``name = lambda …``: a function like any other."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.expr | None = node.targets[0]
    else:
        target = node.target if isinstance(node, ast.AnnAssign) else None
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    return (target.id, value) if isinstance(target, ast.Name) and isinstance(value, ast.Lambda) else None


def list_parameter_names(arguments: ast.arguments) -> tuple[str, ...]:
    """The names of all parameters, ``*args`` and ``**kwargs`` included."""
    every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return tuple(argument.arg for argument in every if argument is not None)


def is_device_kernel(scope: Scope) -> bool:
    """Whether a function is compiled for a device (``@triton.jit`` and its like): autograd never sees inside."""
    for decorator in scope.decorators:
        callee = decorator.func if isinstance(decorator, ast.Call) else decorator
        path = get_dotted_name(callee) or ""
        paths = (path, *scope.names.resolve_path(path))
        if any(candidate.startswith(_DEVICE_COMPILERS) or candidate.endswith("triton_jit") for candidate in paths):
            return True
    return False


def get_self_name(scope: Scope) -> str | None:
    """The name by which a method knows its instance, None outside a method."""
    if scope.parent is None or scope.parent.kind != "class" or not scope.parameters:
        return None
    if any(get_dotted_name(decorator) == "staticmethod" for decorator in scope.decorators):
        return None
    return scope.parameters[0]


def find_instance(scope: Scope) -> tuple[str, Scope] | None:
    """The name by which a function knows an instance, and its class: a method, or what is nested in one."""
    shadowed: set[str] = set()
    current: Scope | None = scope
    while current is not None and current.kind == "function":
        name = get_self_name(current)
        if name is not None and current.parent is not None:
            return None if name in shadowed else (name, current.parent)
        shadowed.update(current.parameters)
        current = current.parent
    return None


def get_parameter_hints(scope: Scope) -> dict[str, list[ast.expr]]:
    """The annotations and defaults of a function's parameters: what a caller may give for them."""
    if not isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef):
        return {}
    arguments = scope.node.args
    named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    hints = {argument.arg: [argument.annotation] for argument in named if argument.annotation}
    for name, value in get_parameter_defaults(scope).items():
        hints.setdefault(name, []).append(value)
    return hints


def get_parameter_defaults(scope: Scope) -> dict[str, ast.expr]:
    """The defaults of a function's parameters."""
    if not isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return {}
    arguments = scope.node.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    found = dict(zip(reversed(positional), reversed(arguments.defaults), strict=False))
    by_keyword = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return found | {argument.arg: value for argument, value in by_keyword if value is not None}


def is_super(node: ast.AST) -> bool:
    """Whether an expression is ``super()``."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def get_callee_name(call: ast.Call) -> str:
    """The last identifier of what is called: ``matmul`` of ``torch.matmul(a, b)``, empty for anything else."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def list_arguments(call: ast.Call) -> list[ast.expr]:
    """What a call is given, by position and then by name."""
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def returns_value(scope: Scope) -> bool:
    """Whether a function gives anything back."""
    returned = [node.value for node in scope.select_nodes(ast.Return)]
    returned += [node.value for node in scope.select_nodes(ast.Yield)]
    return isinstance(scope.node, ast.Lambda) or any(value is not None for value in returned)


def is_switched_off(scope: Scope) -> bool:
    """Whether a whole function runs without a graph, as evaluation does."""
    called = (decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in scope.decorators)
    return any((get_dotted_name(callee) or "").endswith(_SWITCHES) for callee in called)


class NameFollower(Protocol):
    """What tells which functions of a module are meant: `mention_graph.MentionGraph`."""

    index: ModuleIndex

    def list_mentions(self, scope: Scope) -> list[Scope]:
        """The functions that a function's own code names."""

    def list_named(self, scope: Scope, node: ast.expr) -> list[Scope]:
        """The functions that one expression names."""

    def list_handed(self, scope: Scope) -> list[Scope]:
        """What a method may run of what its instance was given."""

    def resolves_member(self, owner: Scope, name: str) -> bool:
        """Whether the file says what an attribute of a class's instances runs."""

    def is_type_tested(self, node: ast.expr) -> bool:
        """Whether a name only takes part in an ``isinstance`` test."""

    def collect_reachable(self, roots: Iterable[Scope]) -> set[Scope]:
        """The functions that running some may run."""
