"""The detector of names: contexts, decorators, methods, attributes and functions that a rule lists in data."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import RECORDED, Match, Rule
from theria_lint.static.attention_names import word_set
from theria_lint.static.class_lineage import records_nothing
from theria_lint.static.module_view import Hit, ModuleCode, Place, ambiguity, body_lines, lines_of
from theria_lint.static.scopes import dotted

# Of `x.detach().shape` only the shape is used, and no gradient flows through that.
_METADATA = word_set(
    "shape dtype device size dim ndim numel stride is_contiguous element_size data_ptr requires_grad layout is_cuda "
    "nbytes itemsize"
)
# Receivers whose `.data` is no tensor's: `config.data`, `batch.data`, `ctx.data`.
_NO_TENSORS = word_set(
    "config cfg batch sample samples ctx args kwargs dataset loader dataloader meta metadata response request node "
    "graph data inputs outputs module cls event message record settings options opts state utils"
)


def find(code: ModuleCode, rule: Rule) -> Iterator[Hit]:
    """Every use of the names of a rule's ``[[match]]`` tables, where each says."""
    for match in rule.matches:
        if match.kind in _RESOLVED:
            for named in code.named("attention" if match.where == RECORDED else match.where):
                if not match.names.isdisjoint(named.meanings) and _is_in(code, match, named.place):
                    detail = ambiguity(match.names, named.meanings)
                    hit = _RESOLVED[match.kind](code, match, named.place, detail)
                    if hit is not None:
                        yield hit
        else:
            for place in code.places(match.where):
                hit = _MEMBERS[match.kind](code, match, place)
                if hit is not None:
                    yield hit


def _is_in(code: ModuleCode, match: Match, place: Place) -> bool:
    """Whether a place in attention code is one where a match is looked for."""
    return match.where != RECORDED or not records_nothing(code.index, place.scope)


def _context(code: ModuleCode, match: Match, place: Place, detail: str) -> Hit | None:
    node = place.node
    assert isinstance(node, ast.expr)
    call = code.index.parents.get(node)
    if not isinstance(call, ast.Call) or call.func is not node:
        # A bare name acts as a decorator only; elsewhere it is passed around and a call of it shows.
        return _decorator_hit(code, match, place, node, detail) if _is_decorator(place, node) else None
    if not _applies(match.when, call):
        return None
    if _is_decorator(place, call):
        return _decorator_hit(code, match, place, call, detail)
    if _wraps_function(match, call):
        return _hit(code, match, place, call, detail, "first-argument")
    outer = code.index.parents.get(call)
    if isinstance(outer, ast.Call) and outer.func is call:
        return _hit(code, match, place, outer, detail, "first-argument")
    return _hit(code, match, place, call, detail, match.neutraliser)


def _applies(when: str, call: ast.Call) -> bool:
    """Whether a switch is thrown: ``set_grad_enabled(False)`` is, ``inference_mode(False)`` is not."""
    if when == "always":
        return True
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    constant = arguments[0].value if arguments and isinstance(arguments[0], ast.Constant) else None
    return constant is False if when == "false" else constant is not False


def _wraps_function(match: Match, call: ast.Call) -> bool:
    """Whether ``no_grad(f)`` is called on a function, as a decorator would be."""
    return match.when != "false" and len(call.args) == 1 and not isinstance(call.args[0], ast.Constant)


def _decorator(code: ModuleCode, match: Match, place: Place, detail: str) -> Hit | None:
    node = place.node
    assert isinstance(node, ast.expr)
    parent = code.index.parents.get(node)
    whole = parent if isinstance(parent, ast.Call) and parent.func is node else node
    if not _is_decorator(place, whole):
        return None
    return _decorator_hit(code, match, place, whole, detail)


def _is_decorator(place: Place, node: ast.AST) -> bool:
    return place.in_header and any(node is decorator for decorator in place.scope.decorators)


def _decorator_hit(code: ModuleCode, match: Match, place: Place, node: ast.expr, detail: str) -> Hit:
    name = dotted(node.func if isinstance(node, ast.Call) else node) or ""
    token = f"@{name}" + ("()" if isinstance(node, ast.Call) else "")
    reach = body_lines(place.scope.function)
    return Hit(node, code.span(node), token, place.scope, reach, "drop-decorator", match.message, detail)


def _hit(code: ModuleCode, match: Match, place: Place, node: ast.expr, detail: str, neutraliser: str | None) -> Hit:
    inner: ast.AST = node
    while isinstance(inner, ast.Call):
        inner = inner.func
    token = f"{dotted(inner)}()"
    return Hit(node, code.span(node), token, place.scope, lines_of(node), neutraliser, match.message, detail)


def _method(code: ModuleCode, match: Match, place: Place) -> Hit | None:
    node = place.node
    if isinstance(node, ast.Call) and _spelt(node.func) in match.names:
        return Hit(
            node, code.span(node), f"{ast.unparse(node.func)}()", place.scope, lines_of(node), None, match.message
        )
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in match.names:
        return None
    # A function of a module: a [[match]] of kind "function" says which of those count.
    if place.names.resolve_node(node.func) or _is_super(node.func.value) or _metadata_only(code, node):
        return None
    if _is_finished_gradient(place, node.func.value):
        return None
    span = code.member_span(node.func, node)
    token = f".{node.func.attr}()"
    return Hit(node, span, token, place.scope, lines_of(node), match.neutraliser, match.message)


def _spelt(node: ast.AST) -> str | None:
    """The member that ``getattr(x, "member")`` gives."""
    if not isinstance(node, ast.Call) or len(node.args) != 2 or dotted(node.func) != "getattr":
        return None
    name = node.args[1]
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _metadata_only(code: ModuleCode, node: ast.AST) -> bool:
    parent = code.index.parents.get(node)
    return isinstance(parent, ast.Attribute) and parent.attr in _METADATA


def _attribute(code: ModuleCode, match: Match, place: Place) -> Hit | None:
    node = place.node
    if not isinstance(node, ast.Attribute) or node.attr not in match.names or isinstance(node.ctx, ast.Del):
        return None
    if place.names.resolve_node(node) or _is_no_tensor(node.value) or _metadata_only(code, node):
        return None
    if _is_finished_gradient(place, node.value):
        return None
    parent = code.index.parents.get(node)
    if isinstance(parent, ast.Call) and parent.func is node:
        return None
    rebound = isinstance(node.ctx, ast.Store) and not isinstance(node.value, ast.Name)
    neutraliser = None if rebound else match.neutraliser
    span = code.member_span(node, node)
    return Hit(node, span, f".{node.attr}", place.scope, lines_of(node), neutraliser, match.message)


def _is_finished_gradient(place: Place, receiver: ast.AST) -> bool:
    """Whether a tensor is the ``.grad`` of another, with nothing near that would have given it a graph of its own."""
    if not isinstance(receiver, ast.Attribute) or receiver.attr != "grad":
        return False
    return not any(keyword.arg == "create_graph" for call in place.scope.of(ast.Call) for keyword in call.keywords)


def _is_no_tensor(receiver: ast.AST) -> bool:
    name = (
        receiver.attr if isinstance(receiver, ast.Attribute) else receiver.id if isinstance(receiver, ast.Name) else ""
    )
    return name.strip("_").rpartition("_")[2] in _NO_TENSORS or name in {"self", "cls"}


def _function(code: ModuleCode, match: Match, place: Place, detail: str) -> Hit | None:
    call = code.index.parents.get(place.node)
    if not isinstance(call, ast.Call):
        return None
    if any(argument is place.node for argument in call.args):
        return _passed(code, match, place, detail)
    if call.func is not place.node:
        return None
    if not _applies(match.when, call) or _metadata_only(code, call):
        return None
    return _hit(code, match, place, call, detail, match.neutraliser)


def _passed(code: ModuleCode, match: Match, place: Place, detail: str) -> Hit | None:
    """A function that is given to another, which calls it: ``map(torch.detach, tensors)``."""
    node = place.node
    assert isinstance(node, ast.expr)
    if match.when != "always":
        return None
    return Hit(node, code.span(node), f"{dotted(node)}", place.scope, lines_of(node), None, match.message, detail)


_RESOLVED = {"context": _context, "decorator": _decorator, "function": _function}
_MEMBERS = {"method": _method, "attribute": _attribute}
