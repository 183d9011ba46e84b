"""What the code of a module takes from other modules, told by its imports.

Names are dotted as the file imports them, relative ones with their leading dots: ``.kernel.feature_map``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from theria_lint.sources.source_text import parse
from theria_lint.static.attention_code import AttentionCode, is_super
from theria_lint.static.class_lineage import CALL_ENTRIES, lineage, method_of
from theria_lint.static.dataflow import assignments
from theria_lint.static.scopes import Index, NameTable, Scope, build, dotted, self_name


class Part(NamedTuple):
    """What using one thing of a module may run there, and what that code takes from other modules; all sorted.

    ``functions`` are the symbols of what runs, ``classes`` those of the classes that take part, with what builds their
    instances. ``imports``: what the code names of other modules; ``called``: the members that it calls, perhaps those
    of what it took. ``methods``: those of the thing, if it is a class. ``elsewhere``: what the thing is but another
    name for. ``stars``: what it may be, by an import of everything, where the module does not name it: then all else
    is empty, and ``known`` false. ``is_attention``: the code is attention code by what its own file tells.
    """

    functions: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    stars: tuple[str, ...] = ()
    known: bool = False
    is_attention: bool = False


def read(source: str) -> Uses:
    """The uses of a module; `SourceError` for what does not parse."""
    return Uses(build(parse(source)))


class Uses:
    """Answers, for one module, what its functions and classes take from others."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._attention = AttentionCode(index)
        self._variables = _values(index.module.of(ast.Assign))
        self._defined = {scope.name for scope in index.module.children}
        self._members: dict[Scope, dict[str, set[str]]] = {}

    def part(self, name: str) -> Part:
        """What using ``f``, ``Class`` or ``Class.member`` of the module means."""
        owner, _, member = name.partition(".")
        module = self._index.module
        if not (owner in module.names.bound or owner in self._variables or owner in self._defined):
            return Part(stars=module.names.resolve(name))
        classes = [scope for scope in module.children if scope.name == owner and scope.kind == "class"]
        entries = [*self._attention.named(name), *self._submodules(classes, member)]
        reached = self._attention.closure(entries)
        owners = {scope.parent for scope in reached if scope.parent is not None and scope.parent.kind == "class"}
        line = {ancestor for scope in (*classes, *owners) for ancestor in lineage(self._index, scope)}
        imports = {path for scope in reached for path in self._imports(scope)}
        imports |= {path for scope in classes for path in self._missing(scope, member)}
        return Part(
            _sorted(scope.symbol for scope in reached),
            _sorted(symbol for scope in line for symbol in _made_by(scope)),
            _sorted(imports),
            _sorted(name for scope in reached for name in _called(scope)),
            () if member else _sorted(_methods(self._index, classes)),
            _sorted(self._meanings(module.names, name)),
            known=True,
            is_attention=reached <= self._attention.active,
        )

    def _submodules(self, classes: Iterable[Scope], member: str) -> Iterator[Scope]:
        """What an attribute of a class's instances runs, where it is no method."""
        for scope in classes:
            for ancestor in lineage(self._index, scope):
                yield from self._attention.members(ancestor).get(member, ())

    def _missing(self, scope: Scope, member: str) -> Iterator[str]:
        """What runs in other modules when an instance is called, or a member of it used: what is inherited, or made."""
        wanted = (member.partition(".")[0],) if member else CALL_ENTRIES
        for name in wanted:
            if not method_of(self._index, scope, name):
                yield from self._of_instance(scope, name)

    def _of_instance(self, owner: Scope, name: str) -> Iterator[str]:
        """What an attribute of an instance may be in other modules: made by them, or inherited from them."""
        line = lineage(self._index, owner)
        made = {path for ancestor in line for path in self._made(ancestor).get(name, ())}
        yield from made
        if not made and not (owner.kind == "class" and method_of(self._index, owner, name)):
            yield from (f"{base}.{name}" for ancestor in line for base in _foreign_bases(ancestor))

    def _imports(self, scope: Scope) -> Iterator[str]:
        """What a function's own code, its decorators and the defaults of its parameters name of other modules."""
        assert scope.parent is not None
        instance = self_name(scope)
        for node in scope.nodes:
            if isinstance(node, ast.Name | ast.Attribute) and self._is_whole(node):
                path = dotted(node)
                if path is not None and path.partition(".")[0] != instance:
                    yield from self._meanings(scope.names, path)
                elif instance is not None:
                    yield from self._of_member(scope.parent, node, instance)
        for value in (*scope.decorators, *_defaults(scope).values()):
            for path in _paths(value):
                yield from self._meanings(scope.parent.names, path)

    def _of_member(self, owner: Scope, node: ast.expr, instance: str) -> Iterator[str]:
        """What ``self.member``, or ``super().member``, names of other modules."""
        while isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            node = node.value
        if not isinstance(node, ast.Attribute):
            return
        if isinstance(node.value, ast.Name) and node.value.id == instance:
            yield from self._of_instance(owner, node.attr)
        elif is_super(node.value):
            yield from (f"{base}.{node.attr}" for up in lineage(self._index, owner) for base in _foreign_bases(up))

    def _is_whole(self, node: ast.Name | ast.Attribute) -> bool:
        """Whether a name is read, with all attributes that are taken of it, for more than its type."""
        is_part = isinstance(self._index.parents.get(node), ast.Attribute)
        return isinstance(node.ctx, ast.Load) and not is_part and not self._attention.is_tested(node)

    def _meanings(self, names: NameTable, path: str) -> set[str]:
        """The imported things that a dotted name may stand for, through variables of the module too."""
        root = path.partition(".")[0]
        is_own = root not in self._index.module.names.bound and (root in self._defined or root in self._variables)
        found, seen, stack = set[str]() if is_own else set(names.resolve(path)), set[str](), [path]
        while stack:
            root = stack.pop().partition(".")[0]
            if root not in seen and root in self._variables and names.bound.get(root) != set():
                seen.add(root)
                inner = [part for value in self._variables[root] for part in _paths(value)]
                found.update(meaning for part in inner for meaning in self._index.module.names.resolve(part))
                stack += inner
        return found

    def _made(self, owner: Scope) -> dict[str, set[str]]:
        """The imported things that a class's body and methods put into each attribute of an instance."""
        if owner not in self._members:
            table = self._members[owner] = {}
            for method in (owner, *owner.children):
                if method.kind == "function" or method is owner:
                    for name, value in _assigned(method):
                        table.setdefault(name, set()).update(self._sources(method, value))
        return self._members[owner]

    def _sources(self, method: Scope, value: ast.expr) -> Iterator[str]:
        """The imported things that a value is made from, through the method's variables and defaults too."""
        values = {name: [value] for name, value in _defaults(method).items()}
        for targets, assigned in assignments(method):
            for name in targets:
                values.setdefault(name, []).append(assigned)
        seen: set[str] = set()
        stack = [value]
        while stack:
            for path in _paths(stack.pop()):
                yield from self._meanings(method.names, path)
                root = path.partition(".")[0]
                if root not in seen:
                    seen.add(root)
                    stack += values.get(root, ())


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _made_by(owner: Scope) -> Iterator[str]:
    """The symbols of a class and of what builds its instances."""
    yield owner.symbol
    yield from (init.symbol for init in owner.method("__init__"))


def _methods(index: Index, classes: Iterable[Scope]) -> Iterator[str]:
    line = (ancestor for scope in classes for ancestor in lineage(index, scope))
    methods = (child.name for owner in line for child in owner.children if child.kind == "function")
    return (name for name in methods if not name.startswith("__"))


def _foreign_bases(owner: Scope) -> Iterator[str]:
    assert isinstance(owner.node, ast.ClassDef)
    assert owner.parent is not None
    for base in owner.node.bases:
        yield from owner.parent.names.resolve_node(base.value if isinstance(base, ast.Subscript) else base)


def _called(scope: Scope) -> Iterator[str]:
    """The members that a function calls."""
    return (call.func.attr for call in scope.of(ast.Call) if isinstance(call.func, ast.Attribute))


def _assigned(scope: Scope) -> Iterator[tuple[str, ast.expr]]:
    """What a class's body assigns, or what a method puts into an attribute of its instance, by the attribute."""
    instance = self_name(scope)
    pairs = [(target, node.value) for node in scope.of(ast.Assign) for target in node.targets]
    pairs += [(node.target, node.value) for node in scope.of(ast.AnnAssign) if node.value is not None]
    for target, value in pairs:
        if scope.kind == "class" and isinstance(target, ast.Name):
            yield target.id, value
        elif isinstance(target, ast.Attribute) and dotted(target) == f"{instance}.{target.attr}":
            yield target.attr, value
    for call in scope.of(ast.Call):  # self.layers.append(Layer())
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if isinstance(owner, ast.Attribute) and dotted(owner) == f"{instance}.{owner.attr}":
            yield from ((owner.attr, argument) for argument in call.args)


def _defaults(scope: Scope) -> dict[str, ast.expr]:
    """The defaults of a function's parameters."""
    if not isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return {}
    arguments = scope.node.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    found = dict(zip(reversed(positional), reversed(arguments.defaults), strict=False))
    by_keyword = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return found | {argument.arg: value for argument, value in by_keyword if value is not None}


def _paths(value: ast.AST) -> Iterator[str]:
    """The names that an expression mentions, each with all attributes that are taken of it."""
    stack = [value]
    while stack:
        node = stack.pop()
        path = dotted(node)
        if path is not None:
            yield path
        else:
            stack.extend(ast.iter_child_nodes(node))


def _values(statements: Iterable[ast.Assign]) -> dict[str, list[ast.expr]]:
    """What each variable is assigned."""
    table: dict[str, list[ast.expr]] = {}
    for node in statements:
        for target in node.targets:
            if isinstance(target, ast.Name):
                table.setdefault(target.id, []).append(node.value)
    return table
