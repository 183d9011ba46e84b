"""THL004: backwards that compute gradients where autograd cannot see, and operators that have none."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from theria_lint.rules.loader import Rule
from theria_lint.static.class_lineage import (
    FUNCTION_ENTRIES,
    find_methods_of,
    is_autograd_function,
    records_nothing,
)
from theria_lint.static.dataflow import collect_derived_names, iter_loaded_names
from theria_lint.static.module_view import Hit, ModuleView, get_lines
from theria_lint.static.scopes import LOADERS, Scope, get_callee_name, get_dotted_name, is_device_kernel, list_arguments

_EXTENSION = re.compile(r"(^|\.)(_C|\w*_cuda|\w+_ext|\w+_cpp|\w+_extension)(\.|$)")
_BACKWARD = re.compile(r"(^|_)(bwd|backward|grad)(_|$)")
# Packages whose computations autograd does not record.
_LIBRARIES = frozenset({"numpy", "cupy", "numba", "scipy", "ctypes"})
_BUFFERS = frozenset({"empty", "empty_like", "zeros", "zeros_like", "new_empty", "new_zeros", "empty_strided"})


def find_opaque_backwards(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """One place for each backward without ``@once_differentiable``: its first computation off the graph.

    And every call of a custom op that has no backward.
    """
    methods = [
        backward for owner in code.autograd_functions for backward in find_methods_of(code.index, owner, "backward")
    ]
    guarded = _collect_guarded_by_call(code)
    for backward in dict.fromkeys((*methods, *code.attention.registered_backwards)):
        if is_guarded_backward(backward) or backward.name in guarded:
            continue
        hit = find_first_opaque(code, backward)
        if hit is not None:
            yield hit
    yield from _find_ops_without_formula(code)


def _find_ops_without_formula(code: ModuleView) -> Iterator[Hit]:
    """Calls of custom ops of the file that have no backward at all, where autograd would record them."""
    backwards = set(code.attention.registered_backwards)
    for call in code.find_calls():
        scope, name = call.site.scope, get_dotted_name(call.node.func)
        if name is None or scope in backwards or records_nothing(code.index, scope) or _defines_op(scope):
            continue
        if scope.name not in FUNCTION_ENTRIES and _is_custom_op(code, scope, name):
            span, lines = code.get_span(call.node), get_lines(call.node)
            yield Hit(call.node, span, f"{name}()", scope, lines, None, "operator", "", "operator")


def is_guarded_backward(backward: Scope) -> bool:
    """Whether a backward is marked ``@once_differentiable``."""
    return any(_is_once_differentiable(backward, decorator) for decorator in backward.decorators)


def _collect_guarded_by_call(code: ModuleView) -> set[str | None]:
    """The names of what is given to ``once_differentiable`` before it is assigned."""
    calls = (call for scope in code.index.scopes for call in scope.select_nodes(ast.Call))
    return {
        get_dotted_name(argument)
        for call in calls
        if get_callee_name(call) == "once_differentiable"
        for argument in call.args
    }


def _is_once_differentiable(scope: Scope, decorator: ast.expr) -> bool:
    """Whether a decorator is ``once_differentiable``, by any name."""
    callee = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (get_dotted_name(callee) or "").rpartition(".")[2] == "once_differentiable" or any(
        path.endswith(".once_differentiable") for path in scope.names.resolve_node(callee)
    )


def find_first_opaque(code: ModuleView, backward: Scope) -> Hit | None:
    """The first computation off the graph of a backward or of the helpers that it calls, None when there is none."""
    for scope in _list_helpers(code, backward):
        for node in scope.nodes:
            if isinstance(node, ast.Call):
                reason = _explain_opaque_call(code, scope, node)
                if reason is not None:
                    token, kind, detail = reason
                    cure = "registered" if backward in code.attention.registered_backwards else None
                    return Hit(node, code.get_span(node), token, backward, get_lines(node), None, kind, detail, cure)
    return None


def _list_helpers(code: ModuleView, backward: Scope) -> list[Scope]:
    """The backward and the plain functions that it reaches, itself first.

    A call of another ``autograd.Function`` has a backward of its own, so what that runs is not off the graph.
    """
    order: list[Scope] = []
    queue = [backward]
    while queue:
        scope = queue.pop(0)
        if scope in order or is_device_kernel(scope):
            continue
        order.append(scope)
        queue.extend(child for child in scope.children if child.kind == "function")
        queue.extend(found for found in code.attention.list_mentions(scope) if _is_plain_helper(code, found, backward))
    return order


def _is_plain_helper(code: ModuleView, scope: Scope, backward: Scope) -> bool:
    owner = scope.parent
    if owner is None or owner.kind != "class" or not is_autograd_function(code.index, owner):
        return True
    return owner is backward.parent and scope.name != "forward"


def _explain_opaque_call(code: ModuleView, scope: Scope, call: ast.Call) -> tuple[str, str, str] | None:
    """The token, what kind of thing it is and whose, when a call computes off the graph."""
    if isinstance(call.func, ast.Subscript):
        name = get_dotted_name(call.func.value)
        if name is not None and _is_kernel_launch(code, scope, call.func):
            return f"{name}[...]()", "launch", ""
        return None
    name = get_dotted_name(call.func)
    if name is None:
        return None
    for path in scope.names.resolve_path(name) or (name,):
        found = _find_library(path, imported=bool(scope.names.resolve_path(name)))
        if path.partition(".")[0] in _LIBRARIES and not _takes_tensor(scope, call):
            continue
        if found is not None:
            return f"{name}()", *found
    if _is_custom_op(code, scope, name):
        return f"{name}()", "operator", ""
    if any(keyword.arg == "out" for keyword in call.keywords) and scope.names.resolve_path(name):
        return f"{name}(out=...)", "buffer", ""
    if _fills_buffer(code, scope, call):
        return f"{name}()", "buffer", ""
    return None


def _takes_tensor(scope: Scope, call: ast.Call) -> bool:
    """Whether a call is given anything that a function computes from its parameters, sizes apart."""
    tensors = collect_derived_names(scope, scope.parameters)
    arguments = list_arguments(call)
    return any(name in tensors for argument in arguments for name in iter_loaded_names(argument))


def _is_kernel_launch(code: ModuleView, scope: Scope, subscript: ast.Subscript) -> bool:
    if isinstance(subscript.slice, ast.Tuple | ast.Lambda):
        return True
    if any(is_device_kernel(found) for found in code.index.by_name.get(get_dotted_name(subscript.value) or "", ())):
        return True
    return "grid" in (get_dotted_name(subscript.slice) or "").lower()


def _find_library(path: str, *, imported: bool) -> tuple[str, str] | None:
    """What kind of code a path leads to that autograd does not record, and whose; None for any other."""
    root = path.partition(".")[0]
    last = path.rpartition(".")[2]
    if path.startswith("torch.ops."):
        compound = path.startswith(("torch.ops.aten.", "torch.ops.prims.")) and not last.endswith("_backward")
        return None if compound else ("operator", "")
    if path.startswith(tuple(LOADERS)):
        return "extension", ""
    if root in _LIBRARIES:
        return "library", root
    if root == "torch":
        return None
    if imported and _EXTENSION.search(path.rpartition(".")[0]):
        return "extension", ""
    if imported and _BACKWARD.search(last) and not last[0].isupper():
        return "elsewhere", path.rpartition(".")[0].lstrip(".") or "another file"
    return None


def _is_custom_op(code: ModuleView, scope: Scope, name: str) -> bool:
    """Whether a name is a custom op of the file without a formula."""
    found = [one for one in code.index.by_name.get(name, ()) if _defines_op(one)]
    return bool(found) and not code.attention.has_formula(found[0])


def _defines_op(scope: Scope) -> bool:
    """Whether a function is the body of a custom op."""
    callees = (decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in scope.decorators)
    return any("torch.library.custom_op" in scope.names.resolve_node(callee) for callee in callees)


def _fills_buffer(code: ModuleView, scope: Scope, call: ast.Call) -> bool:
    """Whether an imported function is called for its effect on a buffer that the function allocated."""
    if not isinstance(code.index.parents.get(call), ast.Expr):
        return False
    paths = scope.names.resolve_node(call.func)
    if not paths or any(path.startswith(("torch.", "math.", "warnings.", "logging.")) for path in paths):
        return False
    buffers = _collect_buffers(scope)
    return any(isinstance(argument, ast.Name) and argument.id in buffers for argument in call.args)


def _collect_buffers(scope: Scope) -> set[str]:
    names: set[str] = set()
    for node in scope.nodes:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and get_callee_name(node.value) in _BUFFERS
        ):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names
