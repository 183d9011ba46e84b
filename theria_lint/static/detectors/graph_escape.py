"""THL010: tensors converted to Python or NumPy values that influence the result."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from theria_lint.rules.loader import Rule, RuleMatch
from theria_lint.static.attention_names import get_role, is_size_name
from theria_lint.static.class_lineage import is_autograd_function
from theria_lint.static.dataflow import (
    DISCRETE,
    LOADING,
    METADATA,
    NAMED_TYPE,
    collect_derived_names,
    collect_influencing_names,
    influences_result,
    iter_loaded_names,
    list_kept_names,
)
from theria_lint.static.detectors.opaque_backward import is_guarded_backward
from theria_lint.static.learned_members import collect_learned_names, is_learned_module, loads_learned
from theria_lint.static.module_view import CodeSite, Hit, ModuleView, ResolvedCall, get_lines, list_meanings
from theria_lint.static.scopes import (
    Scope,
    get_callee_name,
    get_dotted_name,
    get_self_name,
    list_arguments,
    list_parameter_names,
)

_STORAGE = "storage"
_WHOLE = "whole"
_BITS = "bits"
_LAYER = "layer"
# Of these the argument is converted, whatever they are called on.
_OF_ARGUMENT = frozenset({"new_tensor"})
_BIT_TYPES = re.compile(r"^torch\.(u?int\d+|short|int|long|bool)$")
_FLOATS = frozenset({"to", "float", "double", "half", "bfloat16", "type", "type_as"})
_ARRAYS = frozenset({"numpy", "tolist"})
_FROM_ARRAYS = frozenset({"from_numpy", "frombuffer"})
_TO_ARRAYS = frozenset({"array", "asarray", "ascontiguousarray"})
_MEASURES = METADATA | {"resize_", "filename", "is_shared", "share_memory_", "keys"}
_KEEPING = "keep_vars"
_COPIERS = frozenset({"copy.deepcopy"})
_NAME = re.compile(r"\w+")
_WRAPPERS = frozenset({"Optional", "Union", "None", "typing", "t"})
_NUMBERS = frozenset({"float", "int", "bool", "Number", "Real", "SupportsFloat", "str", *_WRAPPERS})
_NO_TENSORS = frozenset({"self", "cls", "ctx", "config", "args", "kwargs", "math", "np", "module", "layer", "mod"})


def find_graph_escapes(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Conversions of what is computed from a function's tensors, where the result depends on what they give."""
    flows: dict[Scope, tuple[set[str], set[str]]] = {}
    for call in code.find_calls():
        site = call.site
        found = None if site.in_header or _is_unrecorded(code, site.scope) else _match_conversion(rule, call)
        if found is None:
            continue
        match, subject, detail = found
        if site.scope not in flows:
            flows[site.scope] = (
                collect_derived_names(site.scope, _list_tensors(code, site.scope)),
                collect_influencing_names(site.scope, list_kept_names(code.index, site.scope, code.member_reads)),
            )
        tensors, flowing = flows[site.scope]
        named = [name for name in iter_loaded_names(subject) if name in tensors]
        if match.message == _LAYER:
            if _copies_layer(code, site, match, call.node, subject) and influences_result(
                code.index, call.node, flowing, code.member_reads
            ):
                yield _make_escape_hit(code, rule, site, call.node, match, detail)
            continue
        discrete = all(map(is_size_name, named)) and not loads_learned(code.index, site.scope, subject)
        if discrete or _is_no_tensor(code, call.node, named):
            continue
        if match.message == _WHOLE and not _is_cast_back(code, call.node):
            continue
        if match.message == _BITS and not _reads_bits(site, call.node):
            continue
        if match.message == _STORAGE:
            influences = not _is_measured(code, call.node)
        else:
            influences = influences_result(code.index, call.node, flowing, code.member_reads)
        if influences:
            yield _make_escape_hit(code, rule, site, call.node, match, detail)


def _copies_layer(code: ModuleView, site: CodeSite, match: RuleMatch, call: ast.Call, subject: ast.expr) -> bool:
    """Whether what is copied holds weights, or is a leaf: ``copy.deepcopy`` takes anything, but no other tensors."""
    if not match.names.isdisjoint(_COPIERS):
        named = isinstance(subject, ast.Name) and get_role(subject.id) is not None
        return named or is_learned_module(code.index, site.scope, subject)
    return not _is_measured(code, call) and (not _keeps_variables(call) or _loads_state(site.scope))


def _keeps_variables(call: ast.Call) -> bool:
    """Whether a state is one of the parameters themselves: ``layer.state_dict(keep_vars=True)``."""
    said = [keyword.value for keyword in call.keywords if keyword.arg == _KEEPING] or call.args[2:]
    return any(isinstance(value, ast.Constant) and value.value is True for value in said)


def _loads_state(scope: Scope) -> bool:
    """Whether a function loads a state into a layer, which copies it."""
    return any(get_callee_name(call) == LOADING for call in scope.select_nodes(ast.Call))


def _is_measured(code: ModuleView, call: ast.Call) -> bool:
    """Whether only the size or the place of a memory is asked for, or the names of what it holds."""
    node: ast.AST = call
    parent = code.index.parents.get(node)
    while isinstance(parent, ast.Subscript) and parent.value is node:
        node, parent = parent, code.index.parents.get(parent)
    if isinstance(parent, ast.Call):
        return get_callee_name(parent) in DISCRETE
    return isinstance(parent, ast.Attribute) and parent.attr in _MEASURES


def _is_cast_back(code: ModuleView, call: ast.Call) -> bool:
    """Whether whole numbers become a tensor of a floating type at once: ``x.int().to(x.dtype)``."""
    member = code.index.parents.get(call)
    outer = code.index.parents.get(member) if isinstance(member, ast.Attribute) else None
    return isinstance(outer, ast.Call) and isinstance(member, ast.Attribute) and member.attr in _FLOATS


def _reads_bits(site: CodeSite, call: ast.Call) -> bool:
    """Whether a view is given a type of whole numbers: ``x.view(torch.int32)``."""
    given = list_arguments(call)
    is_type = len(given) == 1 and re.fullmatch(NAMED_TYPE, get_dotted_name(given[0]) or "") is not None
    return is_type and any(_BIT_TYPES.match(name) for name in site.names.resolve_node(given[0]))


def _is_no_tensor(code: ModuleView, node: ast.AST, names: list[str]) -> bool:
    """Whether a conversion only runs where a test says that what it converts is no tensor."""
    current = node
    for parent in code.index.iter_ancestors(node):
        if isinstance(parent, ast.If) and current in parent.body and _says_no_tensor(parent.test, names):
            return True
        if isinstance(parent, ast.IfExp) and current is parent.body and _says_no_tensor(parent.test, names):
            return True
        current = parent
    return False


def _says_no_tensor(test: ast.expr, names: list[str]) -> bool:
    """Whether a test holds only for what is no tensor: ``not torch.is_tensor(x)``, ``not isinstance(x, Tensor)``."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(_says_no_tensor(part, names) for part in test.values)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) and isinstance(test.operand, ast.Call):
        called = (get_dotted_name(test.operand.func) or "").rpartition(".")[2]
        tested = [get_dotted_name(argument) for argument in test.operand.args]
        kind = (tested[1] or "").rpartition(".")[2] if len(tested) > 1 else ""
        return tested[:1] != [] and tested[0] in names and (called == "is_tensor" or kind == "Tensor")
    return False


def _is_unrecorded(code: ModuleView, scope: Scope) -> bool:
    """Whether nothing is recorded here anyway: the forward of an autograd.Function, a once-differentiable backward."""
    if scope.parent is None or scope.parent.kind != "class" or not is_autograd_function(code.index, scope.parent):
        return False
    return scope.name in ("forward", "setup_context") or is_guarded_backward(scope)


def _list_tensors(code: ModuleView, scope: Scope) -> set[str]:
    """The names that may be tensors from the start: parameters, those of lambdas too, and what an instance learns."""
    none = {*_NO_TENSORS, get_self_name(scope), *_list_number_parameters(scope)}
    inner = (list_parameter_names(node.args) for node in scope.select_nodes(ast.Lambda))
    given = {name for names in (scope.parameters, *inner) for name in names if name not in none}
    return {name for name in given if not is_size_name(name)} | collect_learned_names(code.index, scope)


def _list_number_parameters(scope: Scope) -> set[str]:
    """The parameters that are annotated as numbers: ``float``, ``int | None``, ``Optional[float]``."""
    if isinstance(scope.node, ast.Lambda):
        return set()
    arguments = scope.function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {
        argument.arg
        for argument in every
        if argument.annotation is not None and _is_number_annotation(argument.annotation)
    }


def _is_number_annotation(annotation: ast.expr) -> bool:
    """Whether an annotation names numbers and nothing else."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        found = set(_NAME.findall(annotation.value))
    else:
        found = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
        found |= {node.attr for node in ast.walk(annotation) if isinstance(node, ast.Attribute)}
    return bool(found) and found <= _NUMBERS and not found <= _WRAPPERS


def _match_conversion(rule: Rule, found: ResolvedCall) -> tuple[RuleMatch, ast.expr, str] | None:
    """The table entry that a call fits, and the tensor that it converts."""
    call = found.node
    for match in rule.matches:
        if match.kind == "method" and isinstance(call.func, ast.Attribute):
            if call.func.attr in match.names and not found.meanings:
                given = call.args[0] if call.args and call.func.attr in _OF_ARGUMENT else call.func.value
                return match, given, ""
        elif match.kind == "function" and len(call.args) >= 1 and not isinstance(call.args[0], ast.Constant):
            name = get_dotted_name(call.func)
            candidates = found.meanings or ((name,) if name else ())
            if not match.names.isdisjoint(candidates) and not _is_of_array(candidates, call.args[0]):
                return match, call.args[0], list_meanings(match.names, candidates)
    return None


def _is_of_array(candidates: Sequence[str], argument: ast.expr) -> bool:
    """Whether what is converted is an array already, or is one at once: what made it one is found by itself."""
    last = {candidate.rpartition(".")[2] for candidate in candidates}
    of_tensor = isinstance(argument, ast.Call) and get_callee_name(argument) in _ARRAYS
    return (not last.isdisjoint(_FROM_ARRAYS) and not of_tensor) or (not last.isdisjoint(_TO_ARRAYS) and of_tensor)


def _make_escape_hit(
    code: ModuleView, rule: Rule, site: CodeSite, call: ast.Call, match: RuleMatch, detail: str
) -> Hit:
    neutraliser = match.neutraliser
    if match.kind == "method":
        assert isinstance(call.func, ast.Attribute)
        span, token = code.get_member_span(call.func, call), f".{call.func.attr}()"
        if neutraliser == "keep-vars" and _loads_state(site.scope):
            neutraliser = None
        if neutraliser is None and _becomes_tensor(code, rule, site, call):
            neutraliser = "drop-call"
    else:
        span, token = code.get_span(call), f"{get_dotted_name(call.func)}()"
    return Hit(call, span, token, site.scope, get_lines(call), neutraliser, match.message, detail)


def _becomes_tensor(code: ModuleView, rule: Rule, site: CodeSite, call: ast.Call) -> bool:
    """Whether an array is made a tensor again at once: ``torch.from_numpy(x.numpy())``."""
    outer = code.index.parents.get(call)
    is_given = isinstance(outer, ast.Call) and call in outer.args
    names = rule.collect_names("function")
    return is_given and isinstance(outer, ast.Call) and not names.isdisjoint(site.names.resolve_node(outer.func))
