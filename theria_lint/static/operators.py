"""Custom ops of ``torch.library``: which functions of a file are the derivative of which."""

from __future__ import annotations

import ast

from .computing import callee_name
from .index import Index, Scope
from .names import dotted

_REGISTER = "register_autograd"
_FAKE = frozenset({"register_fake", "impl_abstract", "register_meta", "register_shape"})
_DEFINE = "torch.library.custom_op"


def registered_derivatives(index: Index) -> dict[Scope, list[Scope]]:
    """For each custom op of a file the backward, and the ``setup_context``, that the file registers for it."""
    calls = [call for scope in index.scopes for call in scope.of(ast.Call)]
    found: dict[Scope, list[Scope]] = {}
    for call in calls:
        if callee_name(call) != _REGISTER:
            continue
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        operators, arguments = _operators(index, call)
        halves = [*arguments[:1], *(given[name] for name in ("backward", "setup_context") if name in given)]
        functions = [function for half in halves for function in _functions(index, half)]
        for operator in operators:
            found.setdefault(operator, []).extend(functions)
    return found


def is_fake(scope: Scope) -> bool:
    """Whether a function only tells the compiler the shapes of what an op returns."""
    called = (decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in scope.decorators)
    return any((dotted(callee) or "").rpartition(".")[2] in _FAKE for callee in called)


def _operators(index: Index, call: ast.Call) -> tuple[list[Scope], list[ast.expr]]:
    """The ops that a registration speaks of, and its arguments after the op."""
    if isinstance(call.func, ast.Attribute):
        bound = _functions(index, call.func.value)
        if bound:
            return bound, call.args
    if not call.args:
        return [], []
    subject = call.args[0]
    if isinstance(subject, ast.Constant):
        return [scope for scope in index.functions() if subject.value in _defined(scope)], call.args[1:]
    return _functions(index, subject), call.args[1:]


def _functions(index: Index, node: ast.expr) -> list[Scope]:
    return [scope for scope in index.by_name.get(dotted(node) or "", ()) if scope.kind == "function"]


def _defined(scope: Scope) -> list[object]:
    """The names of the ops that a function's decorators define."""
    calls = [decorator for decorator in scope.decorators if isinstance(decorator, ast.Call) and decorator.args]
    named = [call.args[0] for call in calls if _DEFINE in scope.names.resolve_node(call.func)]
    return [name.value for name in named if isinstance(name, ast.Constant)]
