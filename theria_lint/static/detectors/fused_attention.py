"""THL007 and THL008: calls whose double backward depends on which implementation PyTorch takes."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Match, Rule
from theria_lint.static import attention_names
from theria_lint.static.dataflow import assignments
from theria_lint.static.module_view import (
    Call,
    Hit,
    ModuleCode,
    Place,
    ambiguity,
    body_lines,
    lines_of,
    refers_to_attention,
)
from theria_lint.static.scopes import NameTable, Scope, alternatives, dotted


def find(code: ModuleCode, rule: Rule) -> Iterator[Hit]:
    """Calls of fused attention, except where the enclosing code forces an implementation with a second derivative."""
    for match in rule.matches:
        for call in code.calls(match.where):
            place, node, candidates = call.place, call.node, call.meanings
            if match.names.isdisjoint(candidates) or _is_forced(code, rule, match, place) or _is_dropped(code, node):
                continue
            token = f"{dotted(node.func)}()"
            detail = ambiguity(match.names, candidates)
            span = code.span(node)
            yield Hit(node, span, token, place.scope, lines_of(node), match.neutraliser, match.message, detail)


def _is_forced(code: ModuleCode, rule: Rule, match: Match, place: Place) -> bool:
    """Whether a ``with sdpa_kernel(SDPBackend.MATH)`` around the call, or such a decorator, picks the math backend."""
    if match.neutraliser != "math-backend":
        return False
    for node in code.index.ancestors(place.node):
        if isinstance(node, ast.With | ast.AsyncWith):
            if any(_forces(rule, place.names, item.context_expr) for item in node.items):
                return True
        elif node is place.scope.node:
            break
    outer = place.scope.parent
    return outer is not None and any(_forces(rule, outer.names, decorator) for decorator in place.scope.decorators)


def _is_dropped(code: ModuleCode, node: ast.Call) -> bool:
    """Whether nobody keeps what a call returns, nor gives it a tensor to write to: it asks whether the call runs."""
    if any(keyword.arg in ("out", None) for keyword in node.keywords):
        return False
    statement = code.index.parents.get(node)
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id == "_" for target in statement.targets)
    return isinstance(statement, ast.Expr)


def _forces(rule: Rule, names: NameTable, expression: ast.expr) -> bool:
    if not isinstance(expression, ast.Call) or not expression.args:
        return False
    if rule.values("safe-contexts").isdisjoint(names.resolve_node(expression.func)):
        return False
    chosen = expression.args[0]
    backends = chosen.elts if isinstance(chosen, ast.List | ast.Tuple) else [chosen]
    return all((dotted(backend) or "").rpartition(".")[2] in rule.values("safe-backends") for backend in backends)


def find_checkpoints(code: ModuleCode, rule: Rule) -> Iterator[Hit]:
    """Reentrant checkpoints in attention code, or of attention wherever the call stands."""
    names = rule.names("function")
    active = code.attention.active
    settled = list(_settled(code, names))
    for call, name in settled:
        if _is_reentrant(call.node) and _is_used(code, call.place.scope, name):
            yield _checkpoint_hit(code, call.place, call.node, "")
    said = _with_aliases(code, {name for _, name in settled})
    for call in code.calls("anywhere"):
        place, node, candidates = call.place, call.node, call.meanings
        if names.isdisjoint(candidates) or not _is_reentrant(node) or dotted(node.func) in said:
            continue
        if place.scope in active or any(_is_attention(code, place.scope, argument) for argument in node.args[:1]):
            yield _checkpoint_hit(code, place, node, ambiguity(names, candidates))
    yield from _decorators(code, names)


def _settled(code: ModuleCode, names: frozenset[str]) -> Iterator[tuple[Call, str]]:
    """The ``name = partial(checkpoint, use_reentrant=…)`` of a module: the call, and the name."""
    for call in code.calls("anywhere"):
        if "functools.partial" not in call.meanings or not call.node.args:
            continue
        checkpoints = not names.isdisjoint(call.place.names.resolve_node(call.node.args[0]))
        statement = code.index.parents.get(call.node)
        if checkpoints and isinstance(statement, ast.Assign) and "use_reentrant" in dict(_keywords(call.node)):
            yield call, dotted(statement.targets[0]) or ""


def _with_aliases(code: ModuleCode, names: set[str]) -> set[str]:
    """Add the names that assignments, or either arm of a choice in one, give to what has one of the names."""
    pairs = [pair for scope in code.index.scopes for pair in assignments(scope)] if names else []
    found = set(names)
    for bound, value in pairs * 2:
        if any(dotted(alternative) in found for alternative in alternatives(value)):
            found.update(bound)
    return found


def _is_used(code: ModuleCode, scope: Scope, name: str) -> bool:
    """Whether attention code calls what ``scope`` gives a name."""
    if scope in code.attention.active or scope in code.attention.setup:
        return True
    return any(isinstance(node, ast.Name) and node.id == name for user in code.active for node in user.nodes)


def _decorators(code: ModuleCode, names: frozenset[str]) -> Iterator[Hit]:
    """``@checkpoint`` wraps all of a function, and is reentrant for want of an argument."""
    for named in code.named():
        place, node = named.place, named.place.node
        if names.isdisjoint(named.meanings) or not isinstance(node, ast.expr):
            continue
        if place.in_header and node in place.scope.decorators:
            token, reach = f"@{dotted(node)}", body_lines(place.scope.function)
            detail = ambiguity(names, named.meanings)
            yield Hit(node, code.span(node), token, place.scope, reach, "drop-decorator", None, detail)


def _checkpoint_hit(code: ModuleCode, place: Place, node: ast.Call, detail: str) -> Hit:
    token = f"{dotted(node.func)}()"
    # A second ``use_reentrant`` beside ``**{"use_reentrant": True}`` would be an error.
    neutraliser = None if any(keyword.arg is None for keyword in node.keywords) else "non-reentrant"
    return Hit(node, code.span(node), token, place.scope, lines_of(node), neutraliser, None, detail)


def _is_reentrant(call: ast.Call) -> bool:
    for name, value in _keywords(call):
        if name is None:
            return False
        if name == "use_reentrant":
            return isinstance(value, ast.Constant) and value.value is not False
    return True


def _keywords(call: ast.Call) -> Iterator[tuple[str | None, ast.expr]]:
    """The keyword arguments of a call, those of ``**{"name": value}`` too; None for what cannot be told."""
    for keyword in call.keywords:
        if keyword.arg is None and isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                yield (key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None), value
        else:
            yield keyword.arg, keyword.value


def _is_attention(code: ModuleCode, scope: Scope, argument: ast.expr) -> bool:
    """Whether what is checkpointed is attention, by its name or by what the file says of it."""
    name = (dotted(argument) or "").rpartition(".")[2]
    return attention_names.names_attention(name) or refers_to_attention(code, scope, argument)
