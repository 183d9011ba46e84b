"""Find what a module registers for its custom ops with ``torch.library``."""

from __future__ import annotations

import ast

from theria_lint.static.scopes import ModuleIndex, Scope, get_callee_name, get_dotted_name

_REGISTER = "register_autograd"
_FAKE = frozenset({"register_fake", "impl_abstract", "register_meta", "register_shape"})
_DEFINE = "torch.library.custom_op"


def find_registered_derivatives(index: ModuleIndex) -> dict[Scope, list[Scope]]:
    """For each custom op of a file the backward, and the ``setup_context``, that the file registers for it."""
    calls = [call for scope in index.scopes for call in scope.select_nodes(ast.Call)]
    found: dict[Scope, list[Scope]] = {}
    for call in calls:
        if get_callee_name(call) != _REGISTER:
            continue
        operators, arguments = _find_registered_ops(index, call)
        functions = _list_halves(index, call, arguments)
        for operator in operators:
            found.setdefault(operator, []).extend(functions)
    return found


def find_derivatives_by_name(index: ModuleIndex) -> dict[str, list[Scope]]:
    """The same for the ops that a file knows by their names alone: ``torch.ops.ns.op`` of ``"ns::op"``."""
    found: dict[str, list[Scope]] = {}
    for call in (call for scope in index.scopes for call in scope.select_nodes(ast.Call)):
        name = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
        if get_callee_name(call) == _REGISTER and isinstance(name, str):
            found.setdefault("torch.ops." + name.replace("::", "."), []).extend(
                _list_halves(index, call, call.args[1:])
            )
    return found


def _list_halves(index: ModuleIndex, call: ast.Call, arguments: list[ast.expr]) -> list[Scope]:
    """The backward and the ``setup_context`` that a registration is given."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    halves = [*arguments[:1], *(given[name] for name in ("backward", "setup_context") if name in given)]
    return [function for half in halves for function in _find_functions(index, half)]


def is_fake_kernel(scope: Scope) -> bool:
    """Whether a function only tells the compiler the shapes of what an op returns."""
    called = (decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in scope.decorators)
    return any((get_dotted_name(callee) or "").rpartition(".")[2] in _FAKE for callee in called)


def _find_registered_ops(index: ModuleIndex, call: ast.Call) -> tuple[list[Scope], list[ast.expr]]:
    """The ops that a registration speaks of, and its arguments after the op."""
    if isinstance(call.func, ast.Attribute):
        bound = _find_functions(index, call.func.value)
        if bound:
            return bound, call.args
    if not call.args:
        return [], []
    subject = call.args[0]
    if isinstance(subject, ast.Constant):
        return [scope for scope in index.iter_functions() if subject.value in _list_defined_ops(scope)], call.args[1:]
    return _find_functions(index, subject), call.args[1:]


def _find_functions(index: ModuleIndex, node: ast.expr) -> list[Scope]:
    return [scope for scope in index.by_name.get(get_dotted_name(node) or "", ()) if scope.kind == "function"]


def _list_defined_ops(scope: Scope) -> list[object]:
    """The names of the ops that a function's decorators define."""
    calls = [decorator for decorator in scope.decorators if isinstance(decorator, ast.Call) and decorator.args]
    named = [call.args[0] for call in calls if _DEFINE in scope.names.resolve_node(call.func)]
    return [name.value for name in named if isinstance(name, ast.Constant)]
