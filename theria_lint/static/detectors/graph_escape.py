"""THL010: tensors turned into Python or NumPy values that then influence the result."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from theria_lint.rules.loader import Match, Rule
from theria_lint.static.attention_names import is_size
from theria_lint.static.class_lineage import is_autograd_function
from theria_lint.static.dataflow import derived, influences_result, influencing, loaded_names
from theria_lint.static.detectors.opaque_backward import is_guarded
from theria_lint.static.module_view import Call, Hit, ModuleCode, Place, ambiguity, lines_of
from theria_lint.static.scopes import Scope, dotted, self_name

_NAME = re.compile(r"\w+")
_WRAPPERS = frozenset({"Optional", "Union", "None", "typing", "t"})
_NUMBERS = frozenset({"float", "int", "bool", "Number", "Real", "SupportsFloat", "str", *_WRAPPERS})
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
    none = {*_NO_TENSORS, self_name(scope), *_numbers(scope)}
    return [name for name in scope.parameters if name not in none]


def _numbers(scope: Scope) -> set[str]:
    """The parameters that are annotated as numbers: ``float``, ``int | None``, ``Optional[float]``."""
    if isinstance(scope.node, ast.Lambda):
        return set()
    arguments = scope.function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {argument.arg for argument in every if argument.annotation is not None and _is_number(argument.annotation)}


def _is_number(annotation: ast.expr) -> bool:
    """Whether an annotation names numbers and nothing else."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        found = set(_NAME.findall(annotation.value))
    else:
        found = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
        found |= {node.attr for node in ast.walk(annotation) if isinstance(node, ast.Attribute)}
    return bool(found) and found <= _NUMBERS and not found <= _WRAPPERS


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
