"""THL010: tensors turned into Python or NumPy values that then influence the result."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ..classes import is_autograd_function
from ..code import Call, Hit, ModuleCode, Place, lines_of
from ..flow import derived, influences_result, influencing, loaded_names
from ..index import Scope, self_name
from ..names import dotted
from ..rules import Match, Rule
from ..words import is_size
from .named import ambiguity
from .opaque import is_guarded

_NO_TENSORS = frozenset({"self", "cls", "ctx", "config", "args", "kwargs", "math", "np", "module", "layer", "mod"})


def find(code: ModuleCode, rule: Rule) -> Iterator[Hit]:
    """Conversions of what is computed from a function's tensors, where the result depends on what they give."""
    flows: dict[Scope, tuple[set[str], set[str]]] = {}
    for call in code.calls():
        place = call.place
        found = None if place.in_header or _is_unrecorded(code, place.scope) else _conversion(rule, call)
        if found is None:
            continue
        match, subject, detail = found
        if place.scope not in flows:
            flows[place.scope] = (derived(place.scope, _tensors(place.scope)), influencing(place.scope))
        tensors, flowing = flows[place.scope]
        named = [name for name in loaded_names(subject) if name in tensors]
        discrete = all(map(is_size, named))  # as nothing at all is
        if not discrete and influences_result(code.index, call.node, flowing):
            yield _hit(code, place, call.node, match, detail)


def _is_unrecorded(code: ModuleCode, scope: Scope) -> bool:
    """Whether nothing is recorded here anyway: the forward of an autograd.Function, a once-differentiable backward."""
    if scope.parent is None or scope.parent.kind != "class" or not is_autograd_function(code.index, scope.parent):
        return False
    return scope.name in ("forward", "setup_context") or is_guarded(scope)


def _tensors(scope: Scope) -> list[str]:
    """The parameters that may be tensors."""
    instance = self_name(scope)
    return [name for name in scope.parameters if name not in _NO_TENSORS and name != instance]


def _conversion(rule: Rule, found: Call) -> tuple[Match, ast.expr, str] | None:
    """The table entry that a call fits, and the tensor that it converts."""
    call = found.node
    for match in rule.matches:
        if match.kind == "method" and isinstance(call.func, ast.Attribute):
            if call.func.attr in match.names and not found.meanings:
                return match, call.func.value, ""
        elif match.kind == "function" and len(call.args) >= 1 and not isinstance(call.args[0], ast.Constant):
            name = dotted(call.func)
            candidates = found.meanings or ((name,) if name else ())
            if not match.names.isdisjoint(candidates):
                return match, call.args[0], ambiguity(match.names, candidates)
    return None


def _hit(code: ModuleCode, place: Place, call: ast.Call, match: Match, detail: str) -> Hit:
    if match.kind == "method":
        assert isinstance(call.func, ast.Attribute)
        span, token = code.member_span(call.func, call), f".{call.func.attr}()"
    else:
        span, token = code.span(call), f"{dotted(call.func)}()"
    return Hit(call, span, token, place.scope, lines_of(call), match.neutraliser, match.message, detail)
