"""One walk over a module's tree: its functions and classes, what each binds, holds and mentions."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .names import NameTable, dotted

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# Nodes that say nothing: contexts, operators, constants.
_MARKS = (ast.expr_context, ast.operator, ast.boolop, ast.unaryop, ast.cmpop, ast.Constant, ast.arguments)
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

    @property
    def function(self) -> FunctionNode:
        """The node of a function's scope."""
        assert isinstance(self.node, _FUNCTIONS)
        return self.node

    @property
    def decorators(self) -> list[ast.expr]:
        """The decorators of a function or class, outermost first."""
        return self.node.decorator_list if isinstance(self.node, _DEFINITIONS) else []

    def enclosing(self, kind: str) -> Scope | None:
        """The nearest scope of this kind around this one, itself excluded."""
        scope = self.parent
        while scope is not None and scope.kind != kind:
            scope = scope.parent
        return scope

    def method(self, name: str) -> list[Scope]:
        """The functions of this name directly inside the scope."""
        return [child for child in self.children if child.kind == "function" and child.name == name]

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
        nodes.append(node)
        if isinstance(node, _DEFINITIONS):
            inner = _enter(node, scope)
            scopes.append(inner)
            parts: list[_Part] = [(node.body, inner, inner.nodes), (node.decorator_list, scope, inner.header)]
            parts.append((_outside(node), scope, nodes))
        elif isinstance(node, ast.JoinedStr):
            continue  # what becomes text influences no gradient
        else:
            if isinstance(node, ast.Import | ast.ImportFrom | ast.Assign):
                scope.names.bind(node)
            parts = [(_own_children(node), scope, nodes)]
        for children, owner, target in parts:
            for child in reversed(children):
                parents[child] = node
                stack.append((child, owner, target))
    by_name: dict[str, list[Scope]] = {}
    for scope in scopes[1:]:
        by_name.setdefault(scope.name, []).append(scope)
    return Index(module, scopes, parents, by_name)


def _own_children(node: ast.AST) -> Sequence[ast.AST]:
    """The children worth a visit: annotations mention types, which run nothing."""
    if isinstance(node, ast.AnnAssign):
        return [node.target, node.value] if node.value is not None else [node.target]
    children: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, ast.AST):
            if not isinstance(value, _MARKS):
                children.append(value)
        elif isinstance(value, list):
            children += [item for item in value if isinstance(item, ast.AST) and not isinstance(item, _MARKS)]
    return children


def _outside(node: ast.AST) -> list[ast.expr]:
    """What of a definition, its decorators apart, is evaluated in the scope around it."""
    if isinstance(node, ast.ClassDef):
        return [*node.bases, *(keyword.value for keyword in node.keywords)]
    assert isinstance(node, _FUNCTIONS)
    return [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]


def _enter(node: ast.AST, scope: Scope) -> Scope:
    assert isinstance(node, _DEFINITIONS)
    symbol = f"{scope.symbol}.{node.name}" if scope.symbol else node.name
    parameters: tuple[str, ...] = ()
    kind = "class"
    if isinstance(node, _FUNCTIONS):
        kind = "function"
        parameters = parameter_names(node.args)
    # Names bound in a class body are not seen by its methods.
    around = scope.names if scope.kind != "class" or scope.names.parent is None else scope.names.parent
    names = NameTable(around, shadowed=parameters)
    inner = Scope(kind, node.name, symbol, node, names, scope, parameters=parameters)
    scope.children.append(inner)
    return inner


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
