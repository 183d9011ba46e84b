"""THL011: hooks that replace the tensor of autograd by a detached or lossy one, or a gradient by another."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule, RuleMatch
from theria_lint.static.attention_names import make_word_set
from theria_lint.static.module_view import CodeSite, Hit, ModuleView, get_lines
from theria_lint.static.scopes import ModuleIndex, Scope, get_callee_name, get_dotted_name, list_arguments

# The results of these take the place of gradients.
_GRADIENT_HOOKS = frozenset(
    {"register_hook", "register_full_backward_hook", "register_full_backward_pre_hook", "register_prehook"}
)
# What makes another number of a gradient.
_CHANGING = make_word_set(
    "mul mul_ div div_ add add_ sub sub_ neg neg_ pow clamp clamp_ clip clip_ sign tanh where masked_fill nan_to_num "
    "zeros_like renorm normalize"
)


def find_hook_cuts(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Registrations, in attention code and where it is built, of hooks whose result is cut off or lossy."""
    scopes = code.attention.active | code.attention.setup
    for call in code.find_calls("anywhere"):
        if call.site.scope not in scopes or call.site.in_header:
            continue
        for match in rule.matches:
            hit = _match_registration(code, rule, match, call.site, call.node)
            if hit is not None:
                yield hit


def _match_registration(code: ModuleView, rule: Rule, match: RuleMatch, site: CodeSite, call: ast.Call) -> Hit | None:
    if match.kind == "method":
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in match.names:
            return None
        span, token = code.get_member_span(call.func, call), f".{call.func.attr}()"
    else:
        if match.names.isdisjoint(site.names.resolve_node(call.func)):
            return None
        span, token = code.get_span(call), f"{get_dotted_name(call.func)}()"
    hooks = list_arguments(call)
    results = [result for hook in hooks[:2] for result in _list_results(code.index, hook)]
    lossy = rule.get_values("lossy")
    if any(_is_lossy(result, lossy) for result in results):
        return Hit(call, span, token, site.scope, get_lines(call), match.neutraliser, match.message)
    if get_callee_name(call) in _GRADIENT_HOOKS and any(map(_is_changed, results)):
        return Hit(call, span, token, site.scope, get_lines(call), match.neutraliser, "changed")
    return None


def _list_results(index: ModuleIndex, hook: ast.expr) -> list[ast.expr]:
    """What a hook may return."""
    if isinstance(hook, ast.Lambda):
        return [hook.body]
    name = (get_dotted_name(hook) or "").rpartition(".")[2]
    functions = [found for found in index.by_name.get(name, ()) if found.kind == "function"]
    return [result for function in functions for result in _list_returned(function)]


def _list_returned(function: Scope) -> list[ast.expr]:
    """What a function returns, and what it has assigned to the names that it returns."""
    if isinstance(function.node, ast.Lambda):
        return [function.node.body]
    returned = [node.value for node in function.nodes if isinstance(node, ast.Return) and node.value is not None]
    names = {value.id for value in returned if isinstance(value, ast.Name)}
    for node in function.nodes:
        if isinstance(node, ast.Assign) and any(
            isinstance(part, ast.Name) and part.id in names for part in node.targets
        ):
            returned.append(node.value)
    return returned


def _is_changed(expression: ast.expr) -> bool:
    """Whether a gradient that a hook returns is another than it was given."""
    return any(
        isinstance(node, ast.BinOp)
        or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub))
        or (isinstance(node, ast.Call) and get_callee_name(node) in _CHANGING)
        for node in ast.walk(expression)
    )


def _is_lossy(expression: ast.expr, lossy: frozenset[str]) -> bool:
    for node in ast.walk(expression):
        if isinstance(node, ast.Call) and get_callee_name(node) in lossy:
            return True
        if isinstance(node, ast.Attribute) and node.attr in lossy:
            return True
    return False
