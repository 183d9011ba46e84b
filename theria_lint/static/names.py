"""What a name means: imports, re-exports, ``try/except ImportError`` alternatives and simple assignments.

A name maps to every dotted path that it may stand for, in sorted order, so that the output is the same on every run.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator

# What these return does what their first argument does.
WRAPPERS = frozenset({"functools.partial", "torch.compile", "torch.jit.script"})
# What these return is a module of compiled code.
LOADERS = frozenset({"torch.utils.cpp_extension.load", "torch.utils.cpp_extension.load_inline"})


def dotted(node: ast.AST) -> str | None:
    """``a.b.c`` of a chain of attributes on a name, None for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    parts.append(node.id)
    return ".".join(reversed(parts))


class NameTable:
    """The names bound in one scope, with the enclosing scope's table behind it."""

    def __init__(self, parent: NameTable | None = None, shadowed: Iterable[str] = ()) -> None:
        self.parent = parent
        self.bound: dict[str, set[str]] = {name: set() for name in shadowed}
        self.stars: list[str] = []

    def bind(self, statement: ast.AST) -> None:
        """Take in what an import or a simple assignment binds; anything else is passed over."""
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                self._import(alias)
        elif isinstance(statement, ast.ImportFrom):
            self._import_from(statement)
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            self._assign(statement.targets[0], statement.value)

    def _import(self, alias: ast.alias) -> None:
        if alias.asname:
            self._add(alias.asname, alias.name)
        else:
            root = alias.name.partition(".")[0]
            self._add(root, root)

    def _import_from(self, statement: ast.ImportFrom) -> None:
        module = "." * statement.level + (statement.module or "")
        for alias in statement.names:
            if alias.name == "*":
                self.stars.append(module)
            else:
                self._add(alias.asname or alias.name, _member(module, alias.name))

    def _assign(self, target: ast.AST, value: ast.AST) -> None:
        if isinstance(target, ast.Name):
            for candidate in alternatives(value):
                for meaning in self._meanings(candidate, target.id):
                    self._add(target.id, meaning)

    def _meanings(self, value: ast.AST, name: str) -> Iterable[str]:
        """What a name stands for that is assigned a value: a compiled or partly applied function is that function."""
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name | ast.Attribute):
            callee = self.resolve_node(value.func)
            if not LOADERS.isdisjoint(callee):
                return callee
            if WRAPPERS.isdisjoint(callee) or not value.args:
                return ()
            value = value.args[0]
        path = dotted(value)
        return self.resolve(path) if path is not None and path != name else ()

    def _add(self, name: str, path: str) -> None:
        self.bound.setdefault(name, set()).add(path)

    def resolve(self, path: str | None) -> tuple[str, ...]:
        """Every dotted path that ``path`` may stand for, sorted; empty when its root is not an imported name."""
        if path is None:
            return ()
        root, dot, rest = path.partition(".")
        meanings = self._root(root)
        return tuple(sorted(meaning + dot + rest for meaning in meanings)) if meanings else ()

    def _root(self, root: str) -> Collection[str]:
        table: NameTable | None = self
        while table is not None:
            if root in table.bound:
                return table.bound[root]
            table = table.parent
        return [_member(module, root) for module in self._all_stars()]

    def _all_stars(self) -> Iterator[str]:
        table: NameTable | None = self
        while table is not None:
            yield from table.stars
            table = table.parent

    def resolve_node(self, node: ast.AST) -> tuple[str, ...]:
        """`resolve` of an expression; a chain on anything but a name has no meaning here."""
        return self.resolve(dotted(node))


def _member(module: str, name: str) -> str:
    """The path of a module's member: ``.name`` of ``from . import name``, as ``..name`` is of the folder above."""
    return module + name if module.endswith(".") else f"{module}.{name}"


def alternatives(value: ast.AST) -> Iterator[ast.AST]:
    """The expressions that an assignment may bind: both arms of ``a if c else b``, both sides of ``a or b``."""
    if isinstance(value, ast.IfExp):
        yield from alternatives(value.body)
        yield from alternatives(value.orelse)
    elif isinstance(value, ast.BoolOp):
        for part in value.values:
            yield from alternatives(part)
    else:
        yield value
