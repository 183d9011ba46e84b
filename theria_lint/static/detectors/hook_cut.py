"""THL011: hooks that replace the tensor of autograd by a detached or lossy one, or a gradient by another."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import Rule, RuleMatch
from theria_lint.static.attention_names import make_word_set
from theria_lint.static.class_lineage import find_methods_of, inherits_from
from theria_lint.static.dataflow import get_assignments, get_values
from theria_lint.static.module_view import CodeSite, Hit, ModuleView, get_lines
from theria_lint.static.scopes import (
    ModuleIndex,
    Scope,
    get_callee_name,
    get_dotted_name,
    get_self_name,
    is_super,
    list_arguments,
)

# What these return takes the place of gradients.
_OF_GRADIENTS = make_word_set(
    "register_hook register_full_backward_hook register_full_backward_pre_hook register_backward_hook register_prehook "
    "register_module_full_backward_hook register_module_full_backward_pre_hook register_module_backward_hook"
)
# What these return is passed over, but the gradients are at hand.
_OF_WATCHED = frozenset({"register_multi_grad_hook", "register_post_accumulate_grad_hook"})
# What makes another number of a gradient.
_CHANGING = make_word_set(
    "mul mul_ div div_ add add_ sub sub_ neg neg_ pow clamp clamp_ clip clip_ sign tanh where masked_fill nan_to_num "
    "zeros_like renorm normalize"
)
# These end as what changes a tensor in place does, and change no number of it.
_SETTING = make_word_set("requires_grad_ share_memory_ rename_ retain_grad_")
# What these give holds what they are given.
_HOLDING = make_word_set("list tuple zip enumerate reversed filter")
_MEMBERS = frozenset({"grad", "data"})
_PARTIAL = "partial"
_Hook = ast.expr | Scope


def find_hook_cuts(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Registrations, in attention code and where it is built, of hooks whose result is cut off or lossy."""
    scopes = code.attention.active | code.attention.setup
    for call in code.find_calls("anywhere"):
        if call.site.in_header:
            continue
        for match in rule.matches:
            registers = call.site.scope in scopes and _is_registration(match, call.site, call.node.func)
            if registers or _is_made_by_heir(code, match, call.site, call.node):
                yield from _check(code, rule, match, call.site.scope, call.node)
    for site in code.find_sites("anywhere"):
        if site.in_header and site.scope.parent in scopes and site.node in site.scope.decorators:
            for match in rule.matches:
                if isinstance(site.node, ast.expr) and _is_registration(match, site, site.node):
                    yield from _check_decorated(code, rule, match, site.scope, site.node)


def _is_registration(match: RuleMatch, site: CodeSite, callee: ast.AST) -> bool:
    """Whether what is called, or decorates, is a function or a method that a table entry lists."""
    if match.kind == "method":
        return isinstance(callee, ast.Attribute) and callee.attr in match.names and not site.names.resolve_node(callee)
    return not match.names.isdisjoint(site.names.resolve_node(callee))


def _is_made_by_heir(code: ModuleView, match: RuleMatch, site: CodeSite, call: ast.Call) -> bool:
    """Whether a class that attention code names hands hooks to the class that it inherits from."""
    owner = site.scope.parent
    if owner is None or owner.kind != "class" or not isinstance(call.func, ast.Attribute):
        return False
    if not is_super(call.func.value) or call.func.attr != "__init__":
        return False
    named = (node.id == owner.name for scope in code.active for node in scope.select_nodes(ast.Name))
    return inherits_from(code.index, owner, match.names) and any(named)


def _check(code: ModuleView, rule: Rule, match: RuleMatch, scope: Scope, call: ast.Call) -> Iterator[Hit]:
    """The finding, if any, in the hooks that a call is given."""
    neutraliser = match.neutraliser
    if match.kind == "method":
        assert isinstance(call.func, ast.Attribute)
        span, token = code.get_member_span(call.func, call), f".{call.func.attr}()"
    elif isinstance(call.func, ast.Attribute) and is_super(call.func.value):
        span, token, neutraliser = code.get_span(call), "super().__init__()", None
    else:
        span, token = code.get_span(call), f"{get_dotted_name(call.func)}()"
    hooks = [hook for given in list_arguments(call)[:2] for hook in _list_hooks(code.index, scope, given)]
    for variant in _list_harm(rule, match, hooks)[:1]:
        yield Hit(call, span, token, scope, get_lines(call), neutraliser, variant)


def _check_decorated(code: ModuleView, rule: Rule, match: RuleMatch, hook: Scope, node: ast.expr) -> Iterator[Hit]:
    """The finding, if any, in a function that a registration decorates: ``@scores.register_hook``."""
    assert hook.parent is not None
    for variant in _list_harm(rule, match, [hook])[:1]:
        token = f"@{get_dotted_name(node)}"
        yield Hit(node, code.get_span(node), token, hook.parent, get_lines(node), "drop-decorator", variant)


def _list_harm(rule: Rule, match: RuleMatch, hooks: list[_Hook]) -> list[str | None]:
    """The messages of the harm that hooks do: an entry's own where they cut, another where they change gradients."""
    last = {name.rpartition(".")[2] for name in match.names}
    watches, replaces = not last.isdisjoint(_OF_WATCHED), not last.isdisjoint(_OF_GRADIENTS)
    results = [] if watches else [result for hook in hooks for result in _list_results(hook)]
    cut = any(_is_lossy(result, rule.get_values("lossy")) for result in results)
    changed = (replaces and any(map(_is_changed, results))) or (
        (replaces or watches) and any(map(_changes_in_place, hooks))
    )
    return [match.message] * cut + ["changed"] * changed


def _list_hooks(index: ModuleIndex, scope: Scope, given: ast.expr, depth: int = 3) -> list[_Hook]:
    """What may run as a hook: lambdas, functions by name, partly applied or made by a function, and objects."""
    if isinstance(given, ast.Lambda):
        return [given]
    if depth == 0:
        return []
    if isinstance(given, ast.Call):
        if get_callee_name(given) == _PARTIAL:
            return [hook for part in given.args[:1] for hook in _list_hooks(index, scope, part, depth - 1)]
        made = index.by_name.get(get_callee_name(given), ())
        found: list[_Hook] = []
        for maker in made:
            if maker.kind == "class":
                found += find_methods_of(index, maker, "__call__")
            else:
                found += [
                    hook for result in _list_results(maker) for hook in _list_hooks(index, maker, result, depth - 1)
                ]
        return found
    path = get_dotted_name(given)
    if path is None:
        return []
    if path in scope.parameters:
        return []
    local = [hook for value in get_values(scope, path) for hook in _list_hooks(index, scope, value, depth - 1)]
    functions = [found for found in index.by_name.get(path.rpartition(".")[2], ()) if found.kind == "function"]
    nested = [found for found in functions if found.parent is scope]
    return local or [*(nested or functions)] or [given]


def _list_results(hook: _Hook) -> list[ast.expr]:
    """What a hook may return, and what it has assigned to the names that it returns; a function of a library itself."""
    if isinstance(hook, ast.Lambda):
        return [hook.body]
    if isinstance(hook, ast.expr):
        return [ast.Call(hook, [], [])]
    if isinstance(hook.node, ast.Lambda):
        return [hook.node.body]
    returned = [node.value for node in hook.select_nodes(ast.Return) if node.value is not None]
    names = {value.id for value in returned if isinstance(value, ast.Name)}
    return returned + [value for name in sorted(names) for value in get_values(hook, name)]


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


def _changes_in_place(hook: _Hook) -> bool:
    """Whether a hook writes into a gradient that it is given: ``g.mul_(0.1)``, ``g *= 0.1``, ``p.grad = -p.grad``."""
    if isinstance(hook, ast.Lambda):
        given = {argument.arg for argument in hook.args.args}
        return any(_writes_into(node, given) for node in ast.walk(hook.body))
    if isinstance(hook, ast.expr):
        return False
    given = set(hook.parameters) - {get_self_name(hook)}
    for _ in hook.nodes:  # what stands for them, by one name more each time
        held = {name for names, value in get_assignments(hook) if _get_root(value) in given for name in names}
        if held <= given:
            break
        given |= held
    nodes = [*hook.nodes] if not isinstance(hook.node, ast.Lambda) else [*ast.walk(hook.node.body)]
    return any(_writes_into(node, given) for node in nodes)


def _writes_into(node: ast.AST, given: set[str]) -> bool:
    if isinstance(node, ast.AugAssign):
        return _get_root(node.target) in given
    if isinstance(node, ast.Assign):
        written = [target for target in node.targets if isinstance(target, ast.Subscript | ast.Attribute)]
        emptied = isinstance(node.value, ast.Constant) and node.value.value is None
        return not emptied and any(_get_root(target) in given for target in written)
    if not isinstance(node, ast.Call):
        return False
    changed = [keyword.value for keyword in node.keywords if keyword.arg == "out"]
    called = get_callee_name(node)
    if called.endswith("_") and not called.endswith("__") and called not in _SETTING:
        changed += [node.func.value] if isinstance(node.func, ast.Attribute) else []
        changed += node.args[:1]
    return any(_get_root(part) in given for part in changed)


def _get_root(node: ast.expr) -> str | None:
    """The name behind entries and gradients, and what holds them: ``grads`` of ``enumerate(grads[1:])``."""
    while True:
        if isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr in _MEMBERS):
            node = node.value
        elif isinstance(node, ast.Call) and get_callee_name(node) in _HOLDING and node.args:
            node = node.args[-1]
        else:
            return node.id if isinstance(node, ast.Name) else None
