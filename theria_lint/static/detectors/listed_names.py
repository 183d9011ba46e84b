"""Rules that only list names: contexts, decorators, methods, attributes and functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from theria_lint.rules.loader import RECORDED, Rule, RuleMatch
from theria_lint.static.attention_names import make_word_set
from theria_lint.static.class_lineage import records_nothing
from theria_lint.static.dataflow import get_values
from theria_lint.static.module_view import (
    CodeSite,
    Hit,
    ModuleView,
    ResolvedName,
    get_body_lines,
    get_lines,
    list_meanings,
)
from theria_lint.static.scopes import get_dotted_name, list_arguments

# Of `x.detach().shape` only the shape is used, and no gradient flows through that.
_METADATA = make_word_set(
    "shape dtype device size dim ndim numel stride is_contiguous element_size data_ptr requires_grad layout is_cuda "
    "nbytes itemsize"
)
# Receivers whose `.data` is no tensor's: `config.data`, `batch.data`, `ctx.data`.
_NO_TENSORS = make_word_set(
    "config cfg batch sample samples ctx args kwargs dataset loader dataloader meta metadata response request node "
    "graph data inputs outputs module cls event message record settings options opts state utils"
)

# So the keys begin under which the dispatcher records.
_AUTOGRAD_KEYS = ("Autograd", "ADInplace")


def find_listed_names(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Every use of the names of a rule's ``[[match]]`` tables, where each says."""
    for match in rule.matches:
        if match.kind in _RESOLVED_MATCHERS:
            for named in _list_names(code, match):
                if _is_in_matched_code(code, match, named.site):
                    detail = list_meanings(match.names, named.meanings)
                    hit = _RESOLVED_MATCHERS[match.kind](code, match, named.site, detail)
                    if hit is not None:
                        yield hit
        else:
            for site in code.find_sites(match.where):
                hit = _MEMBER_MATCHERS[match.kind](code, match, site)
                if hit is not None:
                    yield hit


def _list_names(code: ModuleView, match: RuleMatch) -> list[ResolvedName]:
    """The names that a match looks for, where it does; of a context also where attention gets it from."""
    found = code.find_meanings("attention" if match.where == RECORDED else match.where, match.names)
    if match.kind != "context" or match.where not in ("attention", RECORDED):
        return found
    made = (name for name in code.kept_results if not match.names.isdisjoint(name.meanings))
    return [*found, *(name for name in made if _is_entered(code, name.site))]


def _is_entered(code: ModuleView, site: CodeSite) -> bool:
    """Whether attention code enters a context by the name that is given to it: ``with self.quiet:``."""
    statement = code.index.find_statement(site.node)
    assert isinstance(statement, ast.Assign)
    names = {(get_dotted_name(target) or "").rpartition(".")[2] for target in statement.targets}
    entered = (node for user in code.active for node in user.nodes if isinstance(node, ast.Name | ast.Attribute))
    return any(
        (node.id if isinstance(node, ast.Name) else node.attr) in names
        and isinstance(code.index.parents.get(node), ast.withitem)
        for node in entered
    )


def _is_in_matched_code(code: ModuleView, match: RuleMatch, site: CodeSite) -> bool:
    """Whether a place in attention code is one where a match is looked for."""
    return match.where != RECORDED or not records_nothing(code.index, site.scope)


def _match_context(code: ModuleView, match: RuleMatch, site: CodeSite, detail: str) -> Hit | None:
    node = site.node
    assert isinstance(node, ast.expr)
    call = code.index.parents.get(node)
    if not isinstance(call, ast.Call) or call.func is not node:
        # A bare name acts as a decorator only; elsewhere it is passed around and a call of it shows.
        return _make_decorator_hit(code, match, site, node, detail) if _is_decorator(site, node) else None
    if not _is_switch_thrown(match.when, call) or _restores_state(site, call):
        return None
    if _is_decorator(site, call):
        return _make_decorator_hit(code, match, site, call, detail)
    if _wraps_function(match, call):
        return _make_call_hit(code, match, site, call, detail, "first-argument")
    outer = code.index.parents.get(call)
    if isinstance(outer, ast.Call) and outer.func is call:
        return _make_call_hit(code, match, site, outer, detail, "first-argument")
    return _make_call_hit(code, match, site, call, detail, match.neutraliser)


def _is_switch_thrown(when: str, call: ast.Call) -> bool:
    """Whether a switch is thrown: ``set_grad_enabled(False)`` is, ``inference_mode(False)`` is not."""
    if when == "always":
        return True
    arguments = list_arguments(call)
    if when == "of-autograd":
        keys = [node.attr for argument in arguments for node in ast.walk(argument) if isinstance(node, ast.Attribute)]
        return any(key.startswith(_AUTOGRAD_KEYS) for key in keys)
    constant = arguments[0].value if arguments and isinstance(arguments[0], ast.Constant) else None
    if when == "not-true":
        return bool(arguments) and constant is not True
    return constant is False if when == "false" else constant is not False


def _restores_state(site: CodeSite, call: ast.Call) -> bool:
    """Whether a switch is set to what it was: to ``torch.is_grad_enabled()``, or a name that holds it."""
    arguments = list_arguments(call)
    if len(arguments) != 1:
        return False
    values = get_values(site.scope, get_dotted_name(arguments[0]) or "")
    return any(_asks_state(value) for value in (*arguments, *values))


def _asks_state(value: ast.expr) -> bool:
    """Whether a value says if gradients are recorded, or wanted by what is given."""
    asked = isinstance(value, ast.Call) and (get_dotted_name(value.func) or "").endswith("is_grad_enabled")
    return asked or any(isinstance(node, ast.Attribute) and node.attr == "requires_grad" for node in ast.walk(value))


def _wraps_function(match: RuleMatch, call: ast.Call) -> bool:
    """Whether ``no_grad(f)`` is called on a function, as a decorator would be."""
    return (
        match.when not in ("false", "not-true", "of-autograd")
        and len(call.args) == 1
        and not isinstance(call.args[0], ast.Constant)
    )


def _match_decorator(code: ModuleView, match: RuleMatch, site: CodeSite, detail: str) -> Hit | None:
    node = site.node
    assert isinstance(node, ast.expr)
    parent = code.index.parents.get(node)
    whole = parent if isinstance(parent, ast.Call) and parent.func is node else node
    if not _is_decorator(site, whole):
        return None
    return _make_decorator_hit(code, match, site, whole, detail)


def _is_decorator(site: CodeSite, node: ast.AST) -> bool:
    return site.in_header and any(node is decorator for decorator in site.scope.decorators)


def _make_decorator_hit(code: ModuleView, match: RuleMatch, site: CodeSite, node: ast.expr, detail: str) -> Hit:
    name = get_dotted_name(node.func if isinstance(node, ast.Call) else node) or ""
    token = f"@{name}" + ("()" if isinstance(node, ast.Call) else "")
    reach = get_body_lines(site.scope.function)
    return Hit(node, code.get_span(node), token, site.scope, reach, "drop-decorator", match.message, detail)


def _make_call_hit(
    code: ModuleView, match: RuleMatch, site: CodeSite, node: ast.expr, detail: str, neutraliser: str | None
) -> Hit:
    inner: ast.AST = node
    while isinstance(inner, ast.Call):
        inner = inner.func
    token = f"{get_dotted_name(inner)}()"
    return Hit(node, code.get_span(node), token, site.scope, get_lines(node), neutraliser, match.message, detail)


def _match_method(code: ModuleView, match: RuleMatch, site: CodeSite) -> Hit | None:
    node = site.node
    if isinstance(node, ast.Call) and _get_spelt_member(node.func) in match.names:
        return Hit(
            node, code.get_span(node), f"{ast.unparse(node.func)}()", site.scope, get_lines(node), None, match.message
        )
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in match.names:
        return None
    # A function of a module: a [[match]] of kind "function" says which of those count.
    if site.names.resolve_node(node.func) or _is_super_call(node.func.value) or _is_metadata_only(code, node):
        return None
    if _is_finished_gradient(site, node.func.value) or not _is_switch_thrown(match.when, node):
        return None
    span = code.get_member_span(node.func, node)
    token = f".{node.func.attr}()"
    return Hit(node, span, token, site.scope, get_lines(node), match.neutraliser, match.message)


def _get_spelt_member(node: ast.AST) -> str | None:
    """The member that ``getattr(x, "member")`` gives."""
    if not isinstance(node, ast.Call) or len(node.args) != 2 or get_dotted_name(node.func) != "getattr":
        return None
    name = node.args[1]
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None


def _is_super_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _is_metadata_only(code: ModuleView, node: ast.AST) -> bool:
    parent = code.index.parents.get(node)
    return isinstance(parent, ast.Attribute) and parent.attr in _METADATA


def _match_attribute(code: ModuleView, match: RuleMatch, site: CodeSite) -> Hit | None:
    node = site.node
    if not isinstance(node, ast.Attribute) or node.attr not in match.names or isinstance(node.ctx, ast.Del):
        return None
    if site.names.resolve_node(node) or _is_metadata_only(code, node) or _is_finished_gradient(site, node.value):
        return None
    if _is_no_tensor(node.value) and not _is_changed_in_place(code, node):
        return None
    parent = code.index.parents.get(node)
    if isinstance(parent, ast.Call) and parent.func is node:
        return None
    if match.when == "false" and not _is_set_to_false(node, parent):
        return None
    rebound = match.when != "false" and isinstance(node.ctx, ast.Store) and not isinstance(node.value, ast.Name)
    neutraliser = None if rebound else match.neutraliser
    span = code.get_member_span(node, node)
    return Hit(node, span, f".{node.attr}", site.scope, get_lines(node), neutraliser, match.message)


def _is_set_to_false(node: ast.Attribute, parent: ast.AST | None) -> bool:
    """Whether an attribute is assigned False: ``x.requires_grad = False``."""
    value = parent.value if isinstance(parent, ast.Assign) and node in parent.targets else None
    return isinstance(value, ast.Constant) and value.value is False


def _is_finished_gradient(site: CodeSite, receiver: ast.AST) -> bool:
    """Whether a tensor is the ``.grad`` of another, with nothing near that would have given it a graph of its own."""
    if not isinstance(receiver, ast.Attribute) or receiver.attr != "grad":
        return False
    return not any(
        keyword.arg == "create_graph" for call in site.scope.select_nodes(ast.Call) for keyword in call.keywords
    )


def _is_no_tensor(receiver: ast.AST) -> bool:
    name = (
        receiver.attr if isinstance(receiver, ast.Attribute) else receiver.id if isinstance(receiver, ast.Name) else ""
    )
    return name.strip("_").rpartition("_")[2] in _NO_TENSORS or name in {"self", "cls"}


def _is_changed_in_place(code: ModuleView, node: ast.AST) -> bool:
    """Whether a method that changes tensors is called on something: ``state.data.add_(update)``."""
    member = code.index.parents.get(node)
    call = code.index.parents.get(member) if isinstance(member, ast.Attribute) else None
    is_called = isinstance(call, ast.Call) and call.func is member
    return is_called and isinstance(member, ast.Attribute) and member.attr.endswith("_") and member.attr[0] != "_"


def _match_function(code: ModuleView, match: RuleMatch, site: CodeSite, detail: str) -> Hit | None:
    call = code.index.parents.get(site.node)
    if not isinstance(call, ast.Call):
        return None
    if any(argument is site.node for argument in call.args):
        return _match_passed_function(code, match, site, detail)
    if call.func is not site.node:
        return None
    if not _is_switch_thrown(match.when, call) or _is_metadata_only(code, call):
        return None
    return _make_call_hit(code, match, site, call, detail, match.neutraliser)


def _match_passed_function(code: ModuleView, match: RuleMatch, site: CodeSite, detail: str) -> Hit | None:
    """A function that is given to another, which calls it: ``map(torch.detach, tensors)``."""
    node = site.node
    assert isinstance(node, ast.expr)
    if match.when != "always":
        return None
    return Hit(
        node, code.get_span(node), f"{get_dotted_name(node)}", site.scope, get_lines(node), None, match.message, detail
    )


_RESOLVED_MATCHERS = {"context": _match_context, "decorator": _match_decorator, "function": _match_function}
_MEMBER_MATCHERS = {"method": _match_method, "attribute": _match_attribute}
