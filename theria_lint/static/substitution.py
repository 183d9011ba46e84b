"""Where a stand-in takes the place of what no rewrite can neutralise: see ``dynamic/worker/substitutes.py``.

It stands for the whole of an ``autograd.Function`` whose backward holds a suspect, and for a single tensor that a
forward keeps. A class takes it by its metaclass, so that no line is added.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from ..model import Span, Suspect
from .syntax import parse
from .text import INLINED

_ROOM = f'{INLINED}"theria_lint.dynamic.worker.substitutes", fromlist=["kept"])'
KEPT = f"{_ROOM}.kept"
"""A call of this marks a tensor that the backward is to find on the graph."""

_WHOLE, _KEEPING = f"{_ROOM}.Recorded", f"{_ROOM}.Rejoined"
_FORWARD = frozenset({"forward", "setup_context"})


def has_substitute(source: str, suspect: Suspect) -> bool:
    """Whether a stand-in can take the place of a suspect that no rewrite neutralises."""
    return suspect.neutraliser is None and _function_of(parse(source), suspect) is not None


def substitutes(tree: ast.Module, suspects: Iterable[Suspect]) -> tuple[dict[int, str], frozenset[Span]]:
    """The metaclasses that classes take, by the line of ``class``, and the places of the tensors that are marked."""
    metaclasses: dict[int, str] = {}
    marks: set[Span] = set()
    for suspect in suspects:
        function = _function_of(tree, suspect)
        if function is None:
            continue
        if suspect.symbol.rpartition(".")[2] in _FORWARD:
            metaclasses.setdefault(function.lineno, _KEEPING)
            marks.add(suspect.span)
        else:
            metaclasses[function.lineno] = _WHOLE
    return metaclasses, frozenset(marks)


def _function_of(tree: ast.Module, suspect: Suspect) -> ast.ClassDef | None:
    """The class with a forward and a backward in one of whose methods a suspect stands."""
    owner, _, method = suspect.symbol.rpartition(".")
    if method not in {"backward", *_FORWARD}:
        return None
    found: ast.Module | ast.ClassDef = tree
    for name in owner.split("."):
        classes = (node for node in ast.walk(found) if isinstance(node, ast.ClassDef) and node is not found)
        inner = next((node for node in classes if node.name == name), None)
        if inner is None:
            return None
        found = inner
    methods = {node.name for node in found.body if isinstance(node, ast.FunctionDef)}
    if not isinstance(found, ast.ClassDef) or not {"forward", "backward"} <= methods:
        return None
    return None if any(keyword.arg == "metaclass" for keyword in found.keywords) else found
