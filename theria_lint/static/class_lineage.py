"""Classes of a module: bases, inherited methods, and whether one is an autograd.Function or nn.Module."""

from __future__ import annotations

import ast
from collections import deque

from theria_lint.errors import SourceError
from theria_lint.static.scopes import ModuleIndex, Scope, get_dotted_name, get_self_name

FUNCTION_BASES = frozenset({"torch.autograd.Function", "torch.autograd.function.Function"})
MODULE_BASES = frozenset({"torch.nn.Module", "torch.nn.modules.module.Module", "torch.nn.modules.Module"})
# PyTorch's own modules that attend.
MULTIHEAD = frozenset(
    {
        "torch.nn.MultiheadAttention",
        "torch.nn.modules.MultiheadAttention",
        "torch.nn.modules.activation.MultiheadAttention",
        *(
            f"torch.nn.{room}Transformer{kind}"
            for room in ("", "modules.", "modules.transformer.")
            for kind in ("", "Encoder", "Decoder", "EncoderLayer", "DecoderLayer")
        ),
    }
)
# What the forward of such a module calls on its heirs.
MULTIHEAD_STEPS = ("_sa_block", "_mha_block", "_ff_block")
FUNCTION_ENTRIES = ("forward", "backward", "setup_context", "jvp", "vjp")
# The methods that a base class for message passing calls on its heirs.
MESSAGE_STEPS = ("message", "edge_update", "message_and_aggregate", "aggregate", "update")
_UNRECORDED = ("forward", "setup_context")
_RECORDING = frozenset({"enable_grad", "set_grad_enabled"})
# In one file. Each class is asked for all of its own: of many the time would grow with the square.
_MOST_ANCESTORS = 200
# What decorates methods that need none.
WITHOUT_INSTANCE = frozenset({"staticmethod", "classmethod"})
CALL_ENTRIES = ("forward", "__call__")
# What runs where an instance is made or entered, or where PyTorch is given one.
MAKING_ENTRIES = ("__new__", "__enter__", "__torch_function__", "__torch_dispatch__")
# Methods that run without being named.
UNNAMED_ENTRIES = frozenset({*CALL_ENTRIES, *FUNCTION_ENTRIES, *MESSAGE_STEPS, *MULTIHEAD_STEPS, *MAKING_ENTRIES})


def get_bases(scope: Scope) -> tuple[str, ...]:
    """The dotted paths of a class's bases, resolved where they are imported, as written where they are not."""
    if scope.bases is None:
        scope.bases = _resolve_bases(scope)
    return scope.bases


def _resolve_bases(scope: Scope) -> tuple[str, ...]:
    found: list[str] = []
    assert isinstance(scope.node, ast.ClassDef)
    assert scope.parent is not None
    for base in scope.node.bases:
        path = get_dotted_name(base.value if isinstance(base, ast.Subscript) else base)
        if path is not None:
            found.extend(scope.parent.names.resolve_path(path) or [path])
    return tuple(found)


def get_lineage(index: ModuleIndex, scope: Scope) -> list[Scope]:
    """A class and the classes of its file that it inherits from, nearest first. Raises SourceError for too many."""
    if scope.line is None:
        line = {scope: None}
        queue = deque([scope])
        while queue:
            for base in get_bases(queue.popleft()):
                for found in index.by_name.get(base.rpartition(".")[2], ()):
                    if found.kind == "class" and found not in line:
                        line[found] = None
                        queue.append(found)
            if len(line) > _MOST_ANCESTORS:
                raise SourceError("too_many_ancestors", most=_MOST_ANCESTORS)
        scope.line = list(line)
    return scope.line


def inherits_from(index: ModuleIndex, scope: Scope, roots: frozenset[str]) -> bool:
    """Whether a class descends from one of ``roots``, through other classes of its file too."""
    return any(not roots.isdisjoint(get_bases(ancestor)) for ancestor in get_lineage(index, scope))


def is_autograd_function(index: ModuleIndex, scope: Scope) -> bool:
    """Whether a class is a ``torch.autograd.Function``, as far as the file tells."""
    if inherits_from(index, scope, FUNCTION_BASES):
        return True
    return bool(scope.find_own_methods("backward") and scope.find_own_methods("forward")) and any(
        base.rpartition(".")[2] in {"Function", "FunctionCtx"} for base in get_bases(scope)
    )


def records_nothing(index: ModuleIndex, scope: Scope) -> bool:
    """Whether a function is the forward of an ``autograd.Function``, run with recording off whatever it does itself.

    Not so where its code switches recording on, or where the file calls the forward without ``apply``.
    """
    owner = scope.parent
    if (
        scope.name not in _UNRECORDED
        or owner is None
        or owner.kind != "class"
        or not is_autograd_function(index, owner)
    ):
        return False
    if any(node.attr in _RECORDING for node in scope.select_nodes(ast.Attribute)) or any(
        node.id in _RECORDING for node in scope.select_nodes(ast.Name)
    ):
        return False
    direct = f"{owner.name}.{scope.name}"
    return direct not in index.called()


def passes_messages(index: ModuleIndex, scope: Scope) -> bool:
    """Whether a class sends messages along the edges of a graph, as PyTorch Geometric's layers do."""
    return any(
        base.rpartition(".")[2] == "MessagePassing" for line in get_lineage(index, scope) for base in get_bases(line)
    )


def is_torch_module(index: ModuleIndex, scope: Scope) -> bool:
    """Whether a class is an ``nn.Module``; one with a forward whose base is not known here counts."""
    if inherits_from(index, scope, MODULE_BASES):
        return True
    return bool(scope.find_own_methods("forward")) and not is_autograd_function(index, scope)


def is_instance_method(method: Scope) -> bool:
    """Whether a function is a method that is called on an instance."""
    bound = any(get_dotted_name(decorator) in WITHOUT_INSTANCE for decorator in method.decorators)
    return method.kind == "function" and get_self_name(method) is not None and not bound


def find_methods_of(index: ModuleIndex, scope: Scope, name: str) -> list[Scope]:
    """The methods that ``name`` may mean on a class: its own, or else those of the nearest ancestor that has one."""
    for ancestor in get_lineage(index, scope):
        found = ancestor.find_own_methods(name) or _find_assigned_functions(index, ancestor, name)
        if found:
            return found
    return []


def _find_assigned_functions(index: ModuleIndex, scope: Scope, name: str) -> list[Scope]:
    """The functions that the body of a class assigns to a name: ``forward = _forward``, perhaps ``staticmethod``."""
    assigned = (node.value for node in scope.select_nodes(ast.Assign) if _is_name(node.targets[0], name))
    named = (found for value in assigned for found in index.by_name.get(_unwrap_function(value) or "", ()))
    return [found for found in named if found.kind == "function"]


def _unwrap_function(value: ast.expr) -> str | None:
    """The name behind calls of one argument each."""
    while isinstance(value, ast.Call) and value.args:
        value = value.args[0]
    return get_dotted_name(value)


def _is_name(target: ast.expr, name: str) -> bool:
    return isinstance(target, ast.Name) and target.id == name


def find_multihead_members(scope: Scope) -> set[str]:
    """The attributes to which the methods of a class assign PyTorch's multi-head attention."""
    return {
        target.attr
        for method in scope.children
        for node in method.select_nodes(ast.Assign)
        if isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Attribute) and not MULTIHEAD.isdisjoint(method.names.resolve_node(node.value.func))
    }
