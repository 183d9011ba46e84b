"""THL011: hooks that replace the tensor of autograd by a detached or lossy one."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule, RuleMatch
from theria_lint.static.module_view import CodeSite, Hit, ModuleView, get_lines
from theria_lint.static.scopes import ModuleIndex, Scope, get_callee_name, get_dotted_name


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
    hooks = [*call.args, *(keyword.value for keyword in call.keywords)]
    if not any(_is_hook_cutting(code.index, rule, site.scope, hook) for hook in hooks[:2]):
        return None
    return Hit(call, span, token, site.scope, get_lines(call), match.neutraliser, match.message)


def _is_hook_cutting(index: ModuleIndex, rule: Rule, scope: Scope, hook: ast.expr) -> bool:
    """Whether what a hook returns was cut off the graph or lost precision."""
    lossy = rule.get_values("lossy")
    if isinstance(hook, ast.Lambda):
        return _is_lossy(hook.body, lossy)
    name = (get_dotted_name(hook) or "").rpartition(".")[2]
    functions = [found for found in index.by_name.get(name, ()) if found.kind == "function"]
    return any(_returns_lossy(function, lossy) for function in functions)


def _returns_lossy(function: Scope, lossy: frozenset[str]) -> bool:
    if isinstance(function.node, ast.Lambda):
        return _is_lossy(function.node.body, lossy)
    returned = [node.value for node in function.nodes if isinstance(node, ast.Return) and node.value is not None]
    names = {value.id for value in returned if isinstance(value, ast.Name)}
    for node in function.nodes:
        if isinstance(node, ast.Assign) and any(
            isinstance(part, ast.Name) and part.id in names for part in node.targets
        ):
            returned.append(node.value)
    return any(_is_lossy(value, lossy) for value in returned)


def _is_lossy(expression: ast.expr, lossy: frozenset[str]) -> bool:
    for node in ast.walk(expression):
        if isinstance(node, ast.Call) and get_callee_name(node) in lossy:
            return True
        if isinstance(node, ast.Attribute) and node.attr in lossy:
            return True
    return False
