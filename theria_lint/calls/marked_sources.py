"""Put a decorator on each target of the linted files as these are imported, or run as the command's own script."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

NOTED = "_theria_lint_recorded"
"""The name under which sources find what makes the decorators."""

FACTORY = "factory"
"""The kind that stands for a function that makes targets: it is no target itself."""

Kinds = Mapping[str, str]
"""The kind of each target of a file, by its symbol."""


@functools.cache
def _resolve_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _resolve(path: str) -> str:
    """The real path of a file, folders remembered: every import of the program asks, of thousands in few folders."""
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    return os.path.join(_resolve_folder(folder if os.path.isabs(folder) else os.path.abspath(folder)), name)


def watch_sources(targets: Mapping[str, Kinds], make_decorator: Callable[[str, str, str], Any]) -> None:
    """Mark the targets of some files, by their real paths, from now on; nothing else of the program changes."""
    compile_source = importlib.machinery.SourceFileLoader.source_to_code
    get_code = importlib.machinery.SourceFileLoader.get_code

    def source_to_code(loader: Any, data: Any, path: Any, *options: Any, **more: Any) -> CodeType:
        resolved = _resolve(path) if isinstance(path, str) else ""
        if resolved in targets:
            data = mark_targets(data, resolved, targets[resolved], script=loader.name == "__main__")
        return compile_source(loader, data, path, *options, **more)

    def get_code_afresh(loader: Any, name: str) -> Any:
        path = loader.get_filename(name)
        if _resolve(path) not in targets:
            return get_code(loader, name)
        return loader.source_to_code(loader.get_data(path), path)  # not from bytecode, and none is left behind

    def find_script(path: str) -> _ScriptFinder:
        if _resolve(path) not in targets:
            raise ImportError
        return _ScriptFinder(path)

    importlib.machinery.SourceFileLoader.source_to_code = source_to_code  # type: ignore[method-assign, assignment]
    importlib.machinery.SourceFileLoader.get_code = get_code_afresh  # type: ignore[method-assign, assignment]
    sys.path_hooks.insert(0, find_script)
    setattr(builtins, NOTED, make_decorator)


class _ScriptFinder:
    """Stands for a script as for an archive with a ``__main__`` in it: the interpreter asks it for the code to run."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find_spec(self, name: str, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """The script, and nothing else; the path begins with its folder, as it does without us."""
        if name != "__main__":
            return None
        path = os.path.abspath(self._path)
        if sys.path[:1] == [self._path] and os.path.abspath(sys.argv[0]) == path:
            safe = getattr(sys.flags, "safe_path", False)
            sys.path[:1] = [] if safe else [os.path.dirname(os.path.realpath(path))]
        loader = importlib.machinery.SourceFileLoader(name, path)
        return importlib.util.spec_from_file_location(name, path, loader=loader)


def mark_targets(data: Any, path: str, kinds: Kinds, *, script: bool = False) -> Any:
    """The tree of a source, with a decorator on each target; the source itself where it has none."""
    try:
        tree = ast.parse(data, path)
    except (SyntaxError, ValueError, RecursionError):
        return data
    _TargetMarker(path, kinds).mark(tree)
    if script:  # which has no spec: processes that it starts import it by its path
        tree.body.insert(_count_header(tree.body), ast.parse("__spec__ = None").body[0])
    return tree


def _count_header(body: list[ast.stmt]) -> int:
    """How many statements have to come first: the docstring, and what is from the future."""
    count = 0
    for node in body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and count == 0
        if not docstring and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        count += 1
    return count


class _TargetMarker:
    """Puts the decorator on the definitions and the assignments that targets are, and on what makes some."""

    def __init__(self, path: str, kinds: Kinds) -> None:
        self._path, self._kinds = path, kinds

    def mark(self, tree: ast.Module) -> None:
        """Change the tree in place."""
        self._mark_body(tree, "")
        for node in list(tree.body):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if name in self._kinds:
                    decorator = self._make_decorator(name, self._kinds[name], node)
                    node.value = ast.copy_location(ast.Call(decorator, [node.value], []), node)

    def _mark_body(self, node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):  # which holds no definition, and is most of a source
                continue
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self._mark_body(child, prefix)
                continue
            symbol = prefix + child.name
            makes = isinstance(child, ast.FunctionDef) and not prefix
            made = [name for name in self._kinds if makes and name.startswith(f"{symbol}.")]
            if made:
                child.decorator_list.insert(0, self._make_decorator(symbol, FACTORY, child))
            if symbol in self._kinds:
                child.decorator_list.insert(0, self._make_decorator(symbol, self._kinds[symbol], child))
            if not made:
                self._mark_body(child, f"{symbol}.")

    def _make_decorator(self, symbol: str, kind: str, node: Any) -> ast.expr:
        arguments: list[ast.expr] = [ast.Constant(text) for text in (self._path, symbol, kind)]
        decorator = ast.Call(ast.Name(NOTED, ast.Load()), arguments, [])
        return ast.fix_missing_locations(ast.copy_location(decorator, node))
