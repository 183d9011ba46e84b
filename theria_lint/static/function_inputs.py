"""Tell which inputs of an ``autograd.Function`` are tensors, by what its forward does with them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from theria_lint.static.attention_names import get_role, make_word_set
from theria_lint.static.dataflow import METADATA
from theria_lint.static.scopes import Scope, get_callee_name, get_dotted_name

# Of a tensor these are taken, and of nothing else that people give to such a function.
_MEMBERS = METADATA | make_word_set(
    "abs add addcmul amax amin bmm chunk clamp clone contiguous cos cumsum detach div exp expand flatten float gather "
    "half log masked_fill matmul max mean min mul neg new_empty new_ones new_zeros norm permute pow reshape rsqrt "
    "sigmoid sin softmax split sqrt square squeeze sub sum tanh to transpose type_as unbind unflatten unsqueeze view "
    "view_as T mT"
)
_TENSOR = re.compile(r"\bTensor\b")


def list_own_parameters(method: Scope) -> tuple[str, ...]:
    """The parameters of a Function's method, the context first: without the class that a class method is given."""
    of_class = any(get_dotted_name(decorator) == "classmethod" for decorator in method.decorators)
    return method.parameters[1:] if of_class else method.parameters


def find_tensors(scope: Scope, names: Iterable[str]) -> set[str]:
    """Those of some names of a forward that are tensors: by role, annotation, members, or because they are saved."""
    told = _list_annotated(scope) | _list_saved(scope) | _list_owners_of_members(scope)
    return {name for name in names if get_role(name) or name in told}


def _list_annotated(scope: Scope) -> set[str]:
    """The parameters whose annotation says that they are tensors."""
    if isinstance(scope.node, ast.Lambda):
        return set()
    arguments = scope.function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {one.arg for one in every if one.annotation is not None and _TENSOR.search(ast.unparse(one.annotation))}


def _list_saved(scope: Scope) -> set[str]:
    """The names that are kept for backward as tensors."""
    calls = [call for call in scope.select_nodes(ast.Call) if get_callee_name(call) == "save_for_backward"]
    return {part.id for call in calls for part in call.args if isinstance(part, ast.Name)}


def _list_owners_of_members(scope: Scope) -> set[str]:
    """The names of which something is taken that only tensors have."""
    members = [node for node in scope.select_nodes(ast.Attribute) if node.attr in _MEMBERS]
    return {node.value.id for node in members if isinstance(node.value, ast.Name)}
