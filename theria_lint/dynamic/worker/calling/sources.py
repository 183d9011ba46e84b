"""The source of code that was not written for us, as a tree, and its annotations; empty where they cannot be had."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from typing import Any, get_type_hints


def tree_of(code: Any) -> ast.AST:
    """The syntax tree of a function or a class."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(code))))
    except (OSError, TypeError, SyntaxError, ValueError):
        return ast.Module([], [])


def hints_of(function: Any) -> Mapping[str, Any]:
    """What the parameters of a function are annotated with."""
    try:
        return get_type_hints(function)
    except Exception:  # names that are not defined, and worse
        return {}
