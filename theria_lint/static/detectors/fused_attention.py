"""THL007 and THL008: calls whose double backward depends on the implementation that PyTorch picks."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule, RuleMatch
from theria_lint.static import attention_names
from theria_lint.static.dataflow import get_assignments
from theria_lint.static.module_view import (
    CodeSite,
    Hit,
    ModuleView,
    ResolvedCall,
    get_body_lines,
    get_lines,
    list_meanings,
    refers_to_attention,
)
from theria_lint.static.scopes import NameTable, Scope, get_dotted_name, iter_alternatives

_NO_CHOICE = "noop_context_fn"


def find_fused_calls(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Calls of fused attention, except where the enclosing code forces an implementation with a second derivative."""
    for match in rule.matches:
        for call in code.find_calls(match.where):
            site, node, candidates = call.site, call.node, call.meanings
            if (
                match.names.isdisjoint(candidates)
                or _is_math_forced(code, rule, match, site)
                or _is_result_dropped(code, node)
            ):
                continue
            token = f"{get_dotted_name(node.func)}()"
            detail = list_meanings(match.names, candidates)
            span = code.get_span(node)
            yield Hit(node, span, token, site.scope, get_lines(node), match.neutraliser, match.message, detail)


def _is_math_forced(code: ModuleView, rule: Rule, match: RuleMatch, site: CodeSite) -> bool:
    """Whether a ``with sdpa_kernel(SDPBackend.MATH)`` around the call, or such a decorator, picks the math backend."""
    if match.neutraliser != "math-backend":
        return False
    for node in code.index.iter_ancestors(site.node):
        if isinstance(node, ast.With | ast.AsyncWith):
            if any(_forces_math(rule, site.names, item.context_expr) for item in node.items):
                return True
        elif node is site.scope.node:
            break
    outer = site.scope.parent
    return outer is not None and any(_forces_math(rule, outer.names, decorator) for decorator in site.scope.decorators)


def _is_result_dropped(code: ModuleView, node: ast.Call) -> bool:
    """Whether nobody keeps what a call returns, nor gives it a tensor to write to: it asks whether the call runs."""
    if any(keyword.arg in ("out", None) for keyword in node.keywords):
        return False
    statement = code.index.parents.get(node)
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id == "_" for target in statement.targets)
    return isinstance(statement, ast.Expr)


def _forces_math(rule: Rule, names: NameTable, expression: ast.expr) -> bool:
    if not isinstance(expression, ast.Call) or not expression.args:
        return False
    if rule.get_values("safe-contexts").isdisjoint(names.resolve_node(expression.func)):
        return False
    chosen = expression.args[0]
    backends = chosen.elts if isinstance(chosen, ast.List | ast.Tuple) else [chosen]
    return all(
        (get_dotted_name(backend) or "").rpartition(".")[2] in rule.get_values("safe-backends") for backend in backends
    )


def find_checkpoints(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Reentrant and selective checkpoints in attention code, or of attention wherever the call stands."""
    names = rule.collect_names("function")
    active = code.attention.active
    settled = list(_find_settled_partials(code, names))
    for call, name in settled:
        given = any(_is_attention_argument(code, call.site.scope, argument) for argument in call.node.args[1:2])
        if (_is_reentrant(call.node) or _is_selective(call.node)) and (
            given or _is_used_by_attention(code, call.site.scope, name)
        ):
            yield _make_checkpoint_hit(code, call.site, call.node, "")
    said = _add_aliases(code, {name for _, name in settled})
    for call in code.find_calls("anywhere"):
        site, node, candidates = call.site, call.node, call.meanings
        if names.isdisjoint(candidates) or not (_is_reentrant(node) or _is_selective(node)):
            continue
        if get_dotted_name(node.func) in said and not _is_selective(node):
            continue
        if site.scope in active or any(
            _is_attention_argument(code, site.scope, argument) for argument in node.args[:1]
        ):
            yield _make_checkpoint_hit(code, site, node, list_meanings(names, candidates))
    yield from _find_checkpoint_decorators(code, names)


def _find_settled_partials(code: ModuleView, names: frozenset[str]) -> Iterator[tuple[ResolvedCall, str]]:
    """The ``name = partial(checkpoint, use_reentrant=…)`` of a module: the call, and the name."""
    for call in code.find_calls("anywhere"):
        if "functools.partial" not in call.meanings or not call.node.args:
            continue
        checkpoints = not names.isdisjoint(call.site.names.resolve_node(call.node.args[0]))
        statement = code.index.parents.get(call.node)
        if checkpoints and isinstance(statement, ast.Assign) and "use_reentrant" in dict(_iter_keywords(call.node)):
            yield call, get_dotted_name(statement.targets[0]) or ""


def _add_aliases(code: ModuleView, names: set[str]) -> set[str]:
    """Add the names that assignments, or either arm of a choice in one, give to what has one of the names."""
    pairs = [pair for scope in code.index.scopes for pair in get_assignments(scope)] if names else []
    found = set(names)
    for bound, value in pairs * 2:
        if any(get_dotted_name(alternative) in found for alternative in iter_alternatives(value)):
            found.update(bound)
    return found


def _is_used_by_attention(code: ModuleView, scope: Scope, name: str) -> bool:
    """Whether attention code calls what ``scope`` gives a name."""
    if scope in code.attention.active or scope in code.attention.setup:
        return True
    return any(isinstance(node, ast.Name) and node.id == name for user in code.active for node in user.nodes)


def _find_checkpoint_decorators(code: ModuleView, names: frozenset[str]) -> Iterator[Hit]:
    """``@checkpoint`` wraps all of a function, and is reentrant for want of an argument."""
    for named in code.find_names():
        site, node = named.site, named.site.node
        if names.isdisjoint(named.meanings) or not isinstance(node, ast.expr):
            continue
        if site.in_header and node in site.scope.decorators:
            token, reach = f"@{get_dotted_name(node)}", get_body_lines(site.scope.function)
            detail = list_meanings(names, named.meanings)
            yield Hit(node, code.get_span(node), token, site.scope, reach, "drop-decorator", None, detail)


def _make_checkpoint_hit(code: ModuleView, site: CodeSite, node: ast.Call, detail: str) -> Hit:
    token = f"{get_dotted_name(node.func)}()"
    if _is_selective(node):
        span = code.get_span(node)
        return Hit(node, span, token, site.scope, get_lines(node), "default-contexts", "selective", detail)
    # A second ``use_reentrant`` beside ``**{"use_reentrant": True}`` would be an error.
    neutraliser = None if any(keyword.arg is None for keyword in node.keywords) else "non-reentrant"
    return Hit(node, code.get_span(node), token, site.scope, get_lines(node), neutraliser, None, detail)


def _is_selective(call: ast.Call) -> bool:
    """Whether a checkpoint that is not reentrant decides by a function what it keeps."""
    given = dict(_iter_keywords(call))
    chosen = given.get("context_fn")
    is_own = chosen is not None and (get_dotted_name(chosen) or "").rpartition(".")[2] != _NO_CHOICE
    return is_own and not _is_reentrant(call)


def _is_reentrant(call: ast.Call) -> bool:
    for name, value in _iter_keywords(call):
        if name is None:
            return False
        if name == "use_reentrant":
            return isinstance(value, ast.Constant) and value.value is not False
    return True


def _iter_keywords(call: ast.Call) -> Iterator[tuple[str | None, ast.expr]]:
    """The keyword arguments of a call, those of ``**{"name": value}`` too; None for what cannot be told."""
    for keyword in call.keywords:
        if keyword.arg is None and isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                yield (key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None), value
        else:
            yield keyword.arg, keyword.value


def _is_attention_argument(code: ModuleView, scope: Scope, argument: ast.expr) -> bool:
    """Whether what is checkpointed is attention, by its name or by what the file says of it."""
    name = (get_dotted_name(argument) or "").rpartition(".")[2]
    return attention_names.names_attention(name) or refers_to_attention(code, scope, argument)
