"""One walk over a module's tree: its functions and classes, what each binds, holds and mentions."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from .names import NameTable, dotted

_Node = TypeVar("_Node", bound=ast.AST)
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# Fields that hold no expression or statement, or one that is not run.
_SILENT = frozenset(
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
_NAMING = frozenset({ast.Assign, ast.AnnAssign})
_BINDING = frozenset({ast.Import, ast.ImportFrom, ast.Assign})
# The nodes that somebody asks a scope for.
_KEPT = frozenset(
    {ast.Name, ast.Attribute, ast.Call, ast.BinOp, ast.Lambda, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr}
    | {ast.Return, ast.Yield, ast.For, ast.comprehension}
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_JITS = (
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
    ``bases`` and ``line`` are a class's, ``assigned`` what `flow.assignments` finds, once somebody has asked for them.
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

    def of(self, kind: type[_Node]) -> list[_Node]:
        """The nodes of one kind, in the order of ``nodes``."""
        if self._by_kind is None:
            self._by_kind = {}
            for node in self.nodes:
                self._by_kind.setdefault(type(node), []).append(node)
        return cast("list[_Node]", self._by_kind.get(kind, []))

    def enclosing(self, kind: str) -> Scope | None:
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

    def method(self, name: str) -> list[Scope]:
        """The functions of this name directly inside the scope."""
        return [child for child in self.defined(name) if child.kind == "function"]

    def inside(self) -> Iterator[Scope]:
        """This scope and all within it."""
        stack = [self]
        while stack:
            scope = stack.pop()
            yield scope
            stack.extend(reversed(scope.children))


@dataclass(slots=True)
class Index:
    """The scopes of a module in source order, and the parent of every node."""

    module: Scope
    scopes: list[Scope]
    parents: dict[ast.AST, ast.AST]
    by_name: dict[str, list[Scope]]
    _called: frozenset[str | None] | None = None

    def called(self) -> frozenset[str | None]:
        """The dotted names of all that the module calls."""
        if self._called is None:
            self._called = frozenset(dotted(call.func) for scope in self.scopes for call in scope.of(ast.Call))
        return self._called

    def functions(self) -> Iterator[Scope]:
        """Every function, nested ones and methods included."""
        return (scope for scope in self.scopes if scope.kind == "function")

    def classes(self) -> Iterator[Scope]:
        """Every class."""
        return (scope for scope in self.scopes if scope.kind == "class")

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around a node, from its parent up to the module."""
        parent = self.parents.get(node)
        while parent is not None:
            yield parent
            parent = self.parents.get(parent)

    def statement(self, node: ast.AST) -> ast.stmt:
        """The innermost statement that holds a node, or that the node is."""
        current: ast.AST | None = node
        while not isinstance(current, ast.stmt):
            assert current is not None
            current = self.parents.get(current)
        return current


# Children to visit, the scope that they belong to, and its list that they go into.
_Part = tuple[Sequence[ast.AST], Scope, list[ast.AST]]


def build(tree: ast.Module) -> Index:
    """Index a module. Walks with a stack of its own: a deep expression must not exhaust Python's."""
    module = Scope("module", "", "", tree, NameTable())
    scopes = [module]
    stack: list[tuple[ast.AST, Scope, list[ast.AST]]] = [(child, module, module.nodes) for child in reversed(tree.body)]
    parents: dict[ast.AST, ast.AST] = dict.fromkeys(tree.body, tree)
    while stack:
        node, scope, nodes = stack.pop()
        kind = type(node)
        if kind in _KEPT:
            nodes.append(node)
        if kind in _DEFINING:
            assert isinstance(node, _DEFINITIONS)
            inner = _enter(node, scope)
            scopes.append(inner)
            parts: list[_Part] = [(node.body, inner, inner.nodes), (node.decorator_list, scope, inner.header)]
            parts.append((_outside(node), scope, nodes))
            for children, owner, target in parts:
                for child in reversed(children):
                    parents[child] = node
                    stack.append((child, owner, target))
        elif kind in _NAMING and scope.kind != "function" and (named := _named_lambda(node)) is not None:
            inner = _enter_lambda(*named, scope)
            scopes.append(inner)
            nodes.append(named[1])
            parents[named[1]] = node
            parents[named[1].body] = named[1]
            stack.append((named[1].body, inner, inner.nodes))
        elif kind is not ast.JoinedStr:  # what becomes text influences no gradient
            if kind in _BINDING:
                scope.names.bind(node)
            for child in reversed(_own_children(node)):
                parents[child] = node
                stack.append((child, scope, nodes))
    by_name: dict[str, list[Scope]] = {}
    for scope in scopes[1:]:
        by_name.setdefault(scope.name, []).append(scope)
    return Index(module, scopes, parents, by_name)


def _own_children(node: ast.AST) -> list[ast.AST]:
    """The children worth a visit: annotations mention types, operators and constants say nothing."""
    kind = type(node)
    fields = _FIELDS.get(kind)
    if fields is None:
        fields = _FIELDS[kind] = tuple(name for name in kind._fields if name not in _SILENT)
    children: list[ast.AST] = []
    for name in fields:
        value = getattr(node, name, None)
        if value.__class__ is list:
            children += [item for item in value if item is not None and item.__class__ is not ast.Constant]
        elif value is not None and value.__class__ is not ast.Constant:
            children.append(value)
    return children


def _outside(node: ast.AST) -> list[ast.expr]:
    """What of a definition, its decorators apart, is evaluated in the scope around it."""
    if isinstance(node, ast.ClassDef):
        return [*node.bases, *(keyword.value for keyword in node.keywords)]
    assert isinstance(node, _FUNCTIONS)
    return [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]


def _enter(node: ast.AST, scope: Scope) -> Scope:
    assert isinstance(node, _DEFINITIONS)
    if isinstance(node, _FUNCTIONS):
        return _inside(scope, "function", node.name, node, parameter_names(node.args))
    return _inside(scope, "class", node.name, node, ())


def _enter_lambda(name: str, node: ast.Lambda, scope: Scope) -> Scope:
    return _inside(scope, "function", name, node, parameter_names(node.args))


def _inside(scope: Scope, kind: str, name: str, node: ast.AST, parameters: tuple[str, ...]) -> Scope:
    """A new scope inside another."""
    symbol = f"{scope.symbol}.{name}" if scope.symbol else name
    # Names bound in a class body are not seen by its methods.
    around = scope.names if scope.kind != "class" or scope.names.parent is None else scope.names.parent
    inner = Scope(kind, name, symbol, node, NameTable(around, shadowed=parameters), scope, parameters=parameters)
    scope.children.append(inner)
    return inner


def _named_lambda(node: ast.AST) -> tuple[str, ast.Lambda] | None:
    """The name and the lambda of ``name = lambda …``: a function like any other."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.expr | None = node.targets[0]
    else:
        target = node.target if isinstance(node, ast.AnnAssign) else None
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    return (target.id, value) if isinstance(target, ast.Name) and isinstance(value, ast.Lambda) else None


def parameter_names(arguments: ast.arguments) -> tuple[str, ...]:
    """The names of all parameters, ``*args`` and ``**kwargs`` included."""
    every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return tuple(argument.arg for argument in every if argument is not None)


def is_device_kernel(scope: Scope) -> bool:
    """Whether a function is compiled for a device (``@triton.jit`` and its like): autograd never sees inside."""
    for decorator in scope.decorators:
        callee = decorator.func if isinstance(decorator, ast.Call) else decorator
        path = dotted(callee) or ""
        paths = (path, *scope.names.resolve(path))
        if any(candidate.startswith(_JITS) or candidate.endswith("triton_jit") for candidate in paths):
            return True
    return False


def self_name(scope: Scope) -> str | None:
    """The name by which a method knows its instance, None outside a method."""
    if scope.parent is None or scope.parent.kind != "class" or not scope.parameters:
        return None
    if any(dotted(decorator) == "staticmethod" for decorator in scope.decorators):
        return None
    return scope.parameters[0]
