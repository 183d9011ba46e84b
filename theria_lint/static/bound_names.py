"""Find attention that a module makes and gives a name: compiled, partly applied, wrapped, or returned by a factory."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from theria_lint.static import attention_names
from theria_lint.static.class_lineage import CALL_ENTRIES, find_methods_of, is_torch_module
from theria_lint.static.foreign_uses import INSTANCE, may_be_resolved, names_foreign_attention
from theria_lint.static.scopes import NameFollower, Scope, get_dotted_name, list_arguments, returns_value

# What these return computes what their argument computes.
_WRAPPERS = frozenset(
    {
        "functools.partial",
        "functools.wraps",
        "functools.lru_cache",
        "torch.compile",
        "torch.compiler.disable",
        "torch.compiler.allow_in_graph",
        "torch.jit.script",
        "torch.jit.trace",
        "torch.vmap",
        "torch.func.vmap",
        "torch.no_grad",
        "torch.enable_grad",
        "torch.inference_mode",
        "torch.set_grad_enabled",
        "torch.utils.checkpoint.checkpoint",
        "torch._dynamo.optimize",
        "torch._dynamo.disable",
        "torch.nn.Sequential",
    }
)

_MAKING = (["make"], ["build"], ["create"])


def find_bound_attention(
    code: NameFollower, attention: Collection[Scope]
) -> Iterator[tuple[str, ast.Assign | ast.AnnAssign]]:
    """The names to which a module's own code assigns a callable that is made of attention, with the assignment."""
    for kind in (ast.Assign, ast.AnnAssign):
        for node in code.index.module.select_nodes(kind):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            names = [target for target in get_targets(node) if isinstance(target, ast.Name)]
            if names and isinstance(node.value, ast.Call) and not _is_only_run(code, node):
                yield from ((name.id, node) for name in names if _makes_attention(code, attention, name.id, node.value))


def find_bound_candidates(code: NameFollower) -> Iterator[tuple[str, ast.Assign | ast.AnnAssign, frozenset[str]]]:
    """The names to which a module assigns what is made of a thing of another file, with the imports that may attend."""
    module = code.index.module
    for node in module.select_nodes(ast.Assign):
        assert isinstance(node, ast.Assign)
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if names and isinstance(node.value, ast.Call) and _wraps(code, node.value):
            paths = {path for part in _list_given(node.value) for path in module.names.resolve_node(part)}
            needs = frozenset(need for path in paths for need in (path, path + INSTANCE) if may_be_resolved(path))
            yield from ((name, node, needs) for name in names if needs)


def _is_only_run(code: NameFollower, node: ast.AST) -> bool:
    """Whether code is none that an import runs: ``if __name__ == "__main__":``."""
    tests = (parent.test for parent in code.index.iter_ancestors(node) if isinstance(parent, ast.If))
    return any(isinstance(part, ast.Name) and part.id == "__name__" for test in tests for part in ast.walk(test))


def _list_given(call: ast.Call) -> list[ast.expr]:
    """The names that a call is given, and those that the calls in it are."""
    given = list_arguments(call)
    inner = [part for argument in given if isinstance(argument, ast.Call) for part in _list_given(argument)]
    return [*(argument for argument in given if isinstance(argument, ast.Name | ast.Attribute)), *inner]


def _wraps(code: NameFollower, call: ast.Call) -> bool:
    """Whether what a call returns computes what its argument computes."""
    module = code.index.module
    callee = call.func.func if isinstance(call.func, ast.Call) else call.func
    return not _WRAPPERS.isdisjoint(module.names.resolve_node(callee)) or any(
        makes_function(found) for found in code.list_named(module, callee)
    )


def get_targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    """What an assignment assigns to."""
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _makes_attention(code: NameFollower, attention: Collection[Scope], name: str, call: ast.Call) -> bool:
    """Whether a call returns a function that attends."""
    module = code.index.module
    callee = call.func.func if isinstance(call.func, ast.Call) else call.func
    if any(_returns_attention(attention, found) for found in code.list_named(module, callee)):
        return True
    if _makes_instance(code, attention, callee):
        return True
    if any(_is_factory_name(path.rpartition(".")[2]) for path in module.names.resolve_node(callee)):
        return True
    given = list_arguments(call)
    attends = any(_is_attention(code, attention, argument) for argument in given)
    return attends and (_wraps(code, call) or attention_names.is_attention_function_name(name))


def _makes_instance(code: NameFollower, attention: Collection[Scope], callee: ast.expr) -> bool:
    """Whether what is called is a class of modules that attend: of the file, or as its name or PyTorch tells."""
    module = code.index.module
    if any(names_foreign_attention(path + INSTANCE) for path in module.names.resolve_node(callee)):
        return True
    classes = [
        found
        for found in module.defined(get_dotted_name(callee) or "")
        if found.kind == "class" and is_torch_module(code.index, found)
    ]
    entries = (
        entry for owner in classes for name in CALL_ENTRIES for entry in find_methods_of(code.index, owner, name)
    )
    return any(entry in attention for entry in entries)


def _is_factory_name(name: str) -> bool:
    """Whether a function of another file makes attention, as far as its name can tell: ``make_attention``."""
    verb = attention_names.split_words(name)[:1]
    return verb in _MAKING and name[:1].islower() and attention_names.is_attention_function_name(name)


def _returns_attention(attention: Collection[Scope], scope: Scope) -> bool:
    """Whether a function of the file returns a function of its own that attends."""
    return any(find_inner_attention(attention, scope))


def find_inner_attention(attention: Collection[Scope], scope: Scope) -> Iterator[Scope]:
    """The functions that attend within one that returns a function."""
    if makes_function(scope):
        yield from (child for child in scope.children if child.kind == "function" and child in attention)


def makes_function(scope: Scope) -> bool:
    """Whether a function returns one: what is defined in it, a lambda, a function with some arguments given.

    Or an object that is given what is defined in it, to call it: ``Module([layer], forward)``.
    """
    if not returns_value(scope):
        return False
    inner = {child.name for child in scope.children if child.kind == "function"}
    for node in scope.select_nodes(ast.Return):
        value = node.value
        if isinstance(value, ast.Lambda) or (get_dotted_name(value) if value else None) in inner:
            return True
        if isinstance(value, ast.Call):
            made = (get_dotted_name(value.func) or "").rpartition(".")[2]
            given = {get_dotted_name(argument) for argument in list_arguments(value)}
            is_object = made[:1].isupper() and not inner.isdisjoint(given)
            if is_object or "functools.partial" in scope.names.resolve_node(value.func):
                return True
    return False


def _is_attention(code: NameFollower, attention: Collection[Scope], node: ast.expr) -> bool:
    """Whether an argument is a function that attends, of this file or of another, or makes one."""
    if isinstance(node, ast.Call):
        return any(_is_attention(code, attention, part) for part in (node.func, *node.args))
    path = get_dotted_name(node)
    if path is None:
        return False
    root = next(part for part in ast.walk(node) if isinstance(part, ast.Name))
    if any(found in attention for found in code.list_named(code.index.module, root)):
        return True
    last = [found.rpartition(".")[2] for found in code.index.module.names.resolve_path(path)]
    return any(map(attention_names.is_attention_function_name, last))
