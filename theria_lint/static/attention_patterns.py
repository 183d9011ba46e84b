"""What a function computes, told by its own code: attention, its weights, products with them."""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import combinations

from theria_lint.static import attention_names
from theria_lint.static.class_lineage import CALL_ENTRIES
from theria_lint.static.dataflow import assignments, derived, loaded_names
from theria_lint.static.scopes import Index, Scope, dotted

OPERATION = (
    r"(?:scaled_dot_product_\w*attention|multi_head_attention_forward|flex_attention|memory_efficient_attention\w*"
    r"|_?flash_attn\w*func|flash_attention\w*|sageattn\w*|xformers_attention)"
)
_OPERATION = re.compile(OPERATION)
# What also multiplies, takes a softmax and multiplies again, and is not attention.
_OTHER_SOFTMAX = attention_names.word_set(
    "loss entropy ce router routing gate gating experts moe sample sampler generate"
)
PRODUCTS = frozenset({"matmul", "bmm", "einsum", "baddbmm", "mm", "tensordot"})
_QKV = frozenset({"q", "k", "v"})


def computes_attention(scope: Scope) -> bool:
    """Whether a function's own code computes attention.

    It calls an attention operation; or is matmul, softmax, matmul in this order (of a function of q and k a product and
    a softmax are enough); or it makes q, k and v and multiplies them, however it normalises, or multiplies v by a
    softmax of what it makes of q and k, however it compares the two; or it is a forward that makes q, k and v and
    passes all three on.
    """
    if not _OTHER_SOFTMAX.isdisjoint(attention_names.words(scope.name)):
        return False
    if any(_is_operation(scope, call) for call in scope.of(ast.Call)):
        return True
    products = [node.lineno for node in _products(scope)]
    softmaxes = [] if _is_other(scope) else _softmaxes(scope)
    lines = [call.lineno for call in softmaxes]
    if products and softmaxes and {"q", "k"} <= attention_names.roles(scope.parameters):
        return True  # the weights alone: the values are met elsewhere
    if len(products) >= 2 and softmaxes and min(products) <= min(lines) and max(lines) <= max(products):
        return True
    may_pass_on = scope.name in CALL_ENTRIES
    if (len(products) < 2 and not softmaxes and not may_pass_on) or not _makes_qkv(scope):
        return False
    made = _made_of(scope)
    return _multiplies_all(scope, made) or _weighs(scope, made, softmaxes) or (may_pass_on and _passes_on(scope, made))


def makes_weights(scope: Scope) -> bool:
    """Whether a function's own code ends in a softmax of a product: attention weights, if something multiplies them."""
    softmaxes = _softmaxes(scope)
    if not softmaxes or _is_other(scope):
        return False
    products = [node.lineno for node in _products(scope)]
    return bool(products) and max(products) <= max(call.lineno for call in softmaxes)


def multiplies(scope: Scope, calls: Container[ast.AST]) -> bool:
    """Whether a function's own code multiplies what these calls in it returned."""
    if _is_other(scope):
        return False
    made: set[str] = set()
    for names, value in assignments(scope):
        if _holds(value, calls):
            made.update(names)
    made = derived(scope, made) if made else made
    return any(_uses(product, made, calls) for product in _products(scope))


def callee_name(call: ast.Call) -> str:
    """The last identifier of what is called: ``matmul`` of ``torch.matmul(a, b)``, empty for anything else."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _is_other(scope: Scope) -> bool:
    """Whether the names of a function and its class say that its softmax is no attention's."""
    owner = scope.enclosing("class")
    named = attention_names.words(scope.name)
    if owner is not None and not attention_names.names_attention(owner.name):
        named += attention_names.words(owner.name)
    return not _OTHER_SOFTMAX.isdisjoint(named)


def _is_operation(scope: Scope, call: ast.Call) -> bool:
    """Whether an attention operation is called, by its own name or by one that the file gives it."""
    if _OPERATION.fullmatch(callee_name(call)):
        return True
    if not isinstance(call.func, ast.Name):
        return False
    return any(_OPERATION.fullmatch(path.rpartition(".")[2]) for path in scope.names.resolve(call.func.id))


def _products(scope: Scope) -> Iterator[ast.expr]:
    yield from (node for node in scope.of(ast.BinOp) if isinstance(node.op, ast.MatMult))
    yield from (call for call in scope.of(ast.Call) if callee_name(call) in PRODUCTS)


def _softmaxes(scope: Scope) -> list[ast.Call]:
    return [call for call in scope.of(ast.Call) if "softmax" in callee_name(call).lower()]


def _uses(product: ast.expr, names: set[str], calls: Container[ast.AST]) -> bool:
    """Whether an operand is one of the names, or is computed by one of the calls."""
    return any(node in calls or (isinstance(node, ast.Name) and node.id in names) for node in ast.walk(product))


def _makes_qkv(scope: Scope) -> bool:
    """Whether q, k and v are names that the function assigns or takes, one of them assigned."""
    loops = {name for node in scope.of(ast.For) for name in _names(node.target)}
    bound = {name for names, _ in assignments(scope) for name in names} - loops
    return attention_names.takes_qkv([*bound, *scope.parameters])


def _names(target: ast.expr) -> Iterator[str]:
    return (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _multiplies_all(scope: Scope, made: Mapping[str, set[str]]) -> bool:
    """Whether q, k and v, or what is made of each, all take part in products; ``made`` is `_made_of` the function."""
    products = list(_products(scope))
    if len(products) < 2:
        return False
    used = {name for product in products for name in loaded_names(product, values=True)}
    return all(not used.isdisjoint(made[role]) for role in _QKV)


def _weighs(scope: Scope, made: Mapping[str, set[str]], softmaxes: Iterable[ast.Call]) -> bool:
    """Whether what is made of v is multiplied by a softmax of what is made of q and of k."""
    calls = {call for call in softmaxes if _depends(call, made["q"]) and _depends(call, made["k"])}
    if not calls:
        return False
    named = {name for names, value in assignments(scope) if _holds(value, calls) for name in names}
    weights = derived(scope, named)
    pairs = [(node.left, node.right) for node in scope.of(ast.BinOp) if isinstance(node.op, ast.Mult | ast.MatMult)]
    pairs += [(one, other) for call in _products(scope) if isinstance(call, ast.Call) for one, other in _operands(call)]
    return any(
        (_holds(one, calls) or _depends(one, weights)) and _depends(other, made["v"])
        for pair in pairs
        for one, other in (pair, pair[::-1])
    )


def _made_of(scope: Scope) -> dict[str, set[str]]:
    """For each of q, k and v the names that hold it, or something made of it."""
    bound = {name for names, _ in assignments(scope) for name in names} | set(scope.parameters)
    by_role: dict[str, set[str]] = {}
    for name in bound:
        by_role.setdefault(attention_names.role(name) or "", set()).add(name)
    return {role: derived(scope, by_role.get(role, ())) for role in _QKV}


def _operands(call: ast.Call) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The pairs of what a call multiplies: ``einsum(text, a, b)``, ``a.matmul(b)``."""
    of_method = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    yield from combinations([*of_method, *call.args], 2)


def _depends(node: ast.expr, names: set[str]) -> bool:
    return not names.isdisjoint(loaded_names(node, values=True))


def _holds(node: ast.expr, calls: Container[ast.AST]) -> bool:
    return any(inner in calls for inner in ast.walk(node))


def _passes_on(scope: Scope, made: Mapping[str, set[str]]) -> bool:
    """Whether q, k and v, or what is made of each alone, are arguments of one call."""
    alone = _made_of_one(made)
    for call in scope.of(ast.Call):
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        names = [argument.id for argument in given if isinstance(argument, ast.Name)]
        if attention_names.takes_qkv(names) or {alone.get(name) for name in names} >= _QKV:
            return True
    return False


def _made_of_one(made: Mapping[str, set[str]]) -> dict[str, str]:
    """The names that hold something made of q, of k or of v, and of no other of the three, each with which."""
    found: dict[str, list[str]] = {}
    for role, names in made.items():
        for name in names:
            found.setdefault(name, []).append(role)
    return {name: roles[0] for name, roles in found.items() if len(roles) == 1}


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
