"""The strings that a class's code knows for its parameters, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from theria_lint.dynamic.worker.calling.sources import tree_of


@lru_cache(maxsize=64)
def compared_strings(cls: Any) -> Mapping[str, list[str]]:
    """The strings that each name, or an attribute of that name, is compared with in a class, in source order."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree_of(cls)):
        name = _name(node.left) if isinstance(node, ast.Compare) else None
        if name is not None:
            found.setdefault(name, []).extend(text for text in _strings(node) if text not in found[name])
    return {name: strings for name, strings in found.items() if strings}


def _name(node: ast.expr) -> str | None:
    return getattr(node, "id", None) or getattr(node, "attr", None)


def _strings(comparison: ast.AST) -> list[str]:
    constants = (node.value for node in ast.walk(comparison) if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, str)]
