"""Tell by its text whether a line is reached on a GPU alone: no argument of the user's leads there on a CPU."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

_ASKING = re.compile(r"cuda|\bgpu\b|_gpu\b|gpu_|\bis_hip\b|device_type|device\.type", re.IGNORECASE)
"""What an expression looks like that asks which device there is, or where a tensor is."""

_LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def asks_for_gpu(source: str, line: int) -> bool:
    """Whether a line stands in a branch, or behind a way out, whose condition asks for a GPU."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _ASKING.search(ast.unparse(node.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return any(_asks(test, names) for test in _list_conditions(tree, line))


def _asks(test: ast.expr, names: set[str]) -> bool:
    used = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    return bool(used & names) or _ASKING.search(ast.unparse(test)) is not None


def _list_conditions(node: ast.AST, line: int) -> Iterator[ast.expr]:
    """The conditions on the way to a line: of the branches around it, and of those before it that leave."""
    for _, value in ast.iter_fields(node):
        if not (isinstance(value, list) and value and isinstance(value[0], ast.stmt)):
            continue
        for number, statement in enumerate(value):
            if not statement.lineno <= line <= (statement.end_lineno or statement.lineno):
                continue
            before = [one for one in value[:number] if isinstance(one, ast.If)]
            yield from (one.test for one in before if isinstance(one.body[-1], _LEAVING))
            if isinstance(statement, ast.If | ast.While):
                yield statement.test
            yield from _list_conditions(statement, line)
