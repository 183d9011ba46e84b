"""What an ablation puts in the place of a call, and which substitutes stand for autograd Functions."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable
from typing import cast

import libcst as cst

from theria_lint.model import Span, Suspect
from theria_lint.sources.source_text import INLINE_IMPORT, parse_python

IDENTITY = "(lambda f: f)"
_LOSS = "inner_loss"
_NULL_HOOK = "lambda *_, **__: None"
_ATTENTION_MODULE = f'{INLINE_IMPORT}"torch.nn.attention", fromlist=["SDPBackend"])'
_DISTANCE = (
    f'(lambda x, y, p=2.0, *_, **__: {INLINE_IMPORT}"torch").linalg.vector_norm('
    "x.unsqueeze(-2) - y.unsqueeze(-3), ord=p, dim=-1))"
)
_ATOMIC_NODES = (
    cst.Name,
    cst.Attribute,
    cst.Call,
    cst.Subscript,
    cst.Integer,
    cst.Float,
    cst.SimpleString,
    cst.List,
    cst.Dict,
)

Replacement = Callable[[cst.Call], cst.BaseExpression]


def get_inline_replacement(neutraliser: str) -> Replacement:
    """The replacement of a call by a neutraliser; it adds no line and needs no import."""
    return _INLINE_REPLACEMENTS[neutraliser]


def get_imported_replacement(neutraliser: str) -> tuple[Replacement, str | None]:
    """The replacement that an author would write, and the import that it needs at the top of the file."""
    return _IMPORTED_REPLACEMENTS.get(neutraliser, (get_inline_replacement(neutraliser), None))


def mark_tensor(node: cst.BaseExpression) -> cst.BaseExpression:
    """A call that marks a tensor."""
    return cst.Call(cst.parse_expression(KEEP_TENSOR), [cst.Arg(node)])


def add_metaclass(node: cst.ClassDef, metaclass: str | None) -> cst.ClassDef:
    """A class with a metaclass, if one is given."""
    if metaclass is None:
        return node
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    keyword = cst.Arg(cst.parse_expression(metaclass), keyword=cst.Name("metaclass"), equal=equal)
    return node.with_changes(keywords=[*node.keywords, keyword])


def keep_receiver(node: cst.BaseExpression, attribute: cst.Attribute) -> cst.BaseExpression:
    """What stands before the dot, in the parentheses of the whole as well as its own."""
    return _merge_parentheses(node, attribute.value)


def _enclose(node: cst.BaseExpression) -> cst.BaseExpression:
    """An expression of which a member can be taken."""
    if node.lpar or isinstance(node, _ATOMIC_NODES):
        return node
    return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def _merge_parentheses(node: cst.BaseExpression, value: cst.BaseExpression) -> cst.BaseExpression:
    lpar, rpar = [*node.lpar, *value.lpar], [*value.rpar, *node.rpar]
    if not lpar and not isinstance(value, _ATOMIC_NODES):
        lpar, rpar = [cst.LeftParen()], [cst.RightParen()]
    return value.with_changes(lpar=lpar, rpar=rpar)


def _drop_call(call: cst.Call) -> cst.BaseExpression:
    return keep_receiver(call, call.func) if isinstance(call.func, cst.Attribute) else call


def _keep_first_argument(call: cst.Call) -> cst.BaseExpression:
    if not call.args:
        return cst.parse_expression(IDENTITY)
    return call if call.args[0].star else _merge_parentheses(call, call.args[0].value)


def _keep_history(call: cst.Call) -> cst.BaseExpression:
    """``torch.Tensor._make_subclass(cls, x)`` as ``x.as_subclass(cls)``."""
    if len(call.args) < 2 or any(arg.star or arg.keyword for arg in call.args[:2]):
        return call
    cls, tensor = (arg.value for arg in call.args[:2])
    method = cst.Attribute(_enclose(tensor), cst.Name("as_subclass"))
    return call.with_changes(func=method, args=[cst.Arg(cls)])


def _replace_by_text(text: str) -> Replacement:
    return lambda call: cst.parse_expression(text)


def _wrap_callee(wrapper: str) -> Replacement:
    """``f(x)`` becomes ``wrapper(f)(x)``."""
    return lambda call: call.with_changes(func=cst.Call(cst.parse_expression(wrapper), [cst.Arg(call.func)]))


def _set_keyword(name: str, value: str) -> Replacement:
    """The call with ``name=value``, in the place of an argument of that name or as the last one."""
    expression = cst.Name(value)
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))

    def replace(call: cst.Call) -> cst.BaseExpression:
        named = [arg.keyword is not None and arg.keyword.value == name for arg in call.args]
        pairs = zip(call.args, named, strict=True)
        args = [arg.with_changes(value=expression) if is_it else arg for arg, is_it in pairs]
        if not any(named):
            if args and not isinstance(args[-1].comma, cst.Comma):
                args[-1] = args[-1].with_changes(comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")))
            args.append(cst.Arg(expression, keyword=cst.Name(name), equal=equal))
        return call.with_changes(args=args)

    return replace


def _keep_loss(call: cst.Call) -> cst.BaseExpression:
    """``loss.backward()`` as an assignment of the loss, which is differentiated where a gradient is read."""
    return cst.NamedExpr(cst.Name(_LOSS), _drop_call(call), lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def differentiate_loss(attribute: cst.Attribute, *, tidy: bool) -> cst.BaseExpression:
    """``x.grad`` as the derivative of the loss that was kept, with a graph of its own."""
    module = "torch" if tidy else f'{INLINE_IMPORT}"torch")'
    given = [cst.Arg(cst.Name(_LOSS)), cst.Arg(attribute.value)]
    keyword = cst.parse_expression("f(create_graph=True)")
    assert isinstance(keyword, cst.Call)
    call = cst.Call(cst.parse_expression(f"{module}.autograd.grad"), [*given, *keyword.args])
    return cst.Subscript(call, [cst.SubscriptElement(cst.Index(cst.Integer("0")))])


def _replace_hook(place: int) -> Replacement:
    """The call with a hook that does nothing in the place of the one that is given there."""

    def replace(call: cst.Call) -> cst.BaseExpression:
        args = [*call.args]
        if len(args) > place:
            args[place] = args[place].with_changes(value=cst.parse_expression(_NULL_HOOK))
        return call.with_changes(args=args)

    return replace


def _drop_keyword(name: str) -> Replacement:
    """The call without an argument of that name."""

    def replace(call: cst.Call) -> cst.BaseExpression:
        args = [arg for arg in call.args if arg.keyword is None or arg.keyword.value != name]
        if args:
            args[-1] = args[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        return call.with_changes(args=args)

    return replace


def _rename_method(name: str) -> Replacement:
    def replace(call: cst.Call) -> cst.BaseExpression:
        return call.with_changes(func=call.func.with_changes(attr=cst.Name(name))) if is_method(call) else call

    return replace


def _call_instead(function: str) -> Replacement:
    """The same call of another function."""
    return lambda call: call.with_changes(func=cst.parse_expression(function))


def write_recorded_output(call: cst.Call) -> cst.BaseExpression:
    """``f(x, out=y)`` as ``y.copy_(f(x))``: autograd records no function that writes into an ``out``."""
    given = [arg.value for arg in call.args if arg.keyword is not None and arg.keyword.value == "out"]
    if not given or isinstance(given[0], cst.Tuple | cst.List) or given[0].deep_equals(cst.Name("None")):
        return call
    copy = cst.Attribute(_enclose(given[0]), cst.Name("copy_"))
    return cst.Call(copy, [cst.Arg(cast(cst.Call, _drop_keyword("out")(call)))])


def is_method(call: cst.Call) -> bool:
    """Whether what is called is an attribute of something."""
    return isinstance(call.func, cst.Attribute)


def _write_out_distance(call: cst.Call) -> cst.BaseExpression:
    """``torch.cdist(x, y, p)`` as the norm of a difference."""
    return _call_instead(_DISTANCE)(call)


def _compute_by_torch(call: cst.Call) -> cst.BaseExpression:
    """``math.sqrt(x)``, by whatever name, as the function of that name that takes tensors."""
    name = f"({cst.Module([]).code_for_node(call.func)}).__name__"
    return call.with_changes(func=cst.parse_expression(f'getattr({INLINE_IMPORT}"torch"), {name})'))


def _compute_by_torch_in_full(call: cst.Call) -> cst.BaseExpression:
    name = call.func.attr if isinstance(call.func, cst.Attribute) else call.func
    if not isinstance(name, cst.Name) or not hasattr(math, name.value):
        return _compute_by_torch(call)
    return call.with_changes(func=cst.Attribute(cst.Name("torch"), name))


def make_plain_attribute(target: cst.Attribute) -> cst.Subscript:
    """``module.name`` as the entry of the module's own dictionary: found before its parameter of that name."""
    index = cst.SubscriptElement(cst.Index(cst.SimpleString(f'"{target.attr.value}"')))
    return cst.Subscript(cst.Attribute(target.value, cst.Name("__dict__")), [index])


_INLINE_REPLACEMENTS: dict[str, Replacement] = {
    "drop-call": _drop_call,
    "drop-attribute": lambda call: cast(cst.BaseExpression, call),
    "first-argument": _keep_first_argument,
    "null-context": _replace_by_text(f'{INLINE_IMPORT}"contextlib").nullcontext()'),
    "math-backend": _wrap_callee(f"{_ATTENTION_MODULE}.sdpa_kernel({_ATTENTION_MODULE}.SDPBackend.MATH)"),
    "non-reentrant": _set_keyword("use_reentrant", "False"),
    "keep-vars": _set_keyword("keep_vars", "True"),
    "create-graph": _set_keyword("create_graph", "True"),
    "keep-loss": _keep_loss,
    "null-hook": _replace_hook(0),
    "null-second-hook": _replace_hook(1),
    "plain-attribute": _keep_first_argument,
    "explicit-distance": _write_out_distance,
    "default-contexts": _drop_keyword("context_fn"),
    "torch-function": _compute_by_torch,
    "as-nested-tensor": _call_instead(f'{INLINE_IMPORT}"torch").nested.as_nested_tensor'),
    "recorded-copy": _rename_method("copy_"),
    "reparametrised": _rename_method("rsample"),
    "as-subclass": _keep_history,
}


def _write_out_distance_in_full(call: cst.Call) -> cst.BaseExpression:
    """``torch.cdist(x, y)`` as an author would write it; with more arguments, as it is written inline."""
    if len(call.args) != 2 or any(arg.keyword is not None or arg.star for arg in call.args):
        return _write_out_distance(call)
    left, right = (cst.Module([]).code_for_node(_enclose(arg.value)) for arg in call.args)
    return cst.parse_expression(f"torch.linalg.vector_norm({left}.unsqueeze(-2) - {right}.unsqueeze(-3), dim=-1)")


_IMPORTED_REPLACEMENTS: dict[str, tuple[Replacement, str]] = {
    "explicit-distance": (_write_out_distance_in_full, "import torch"),
    "torch-function": (_compute_by_torch_in_full, "import torch"),
    "as-nested-tensor": (_call_instead("torch.nested.as_nested_tensor"), "import torch"),
    "null-context": (_replace_by_text("nullcontext()"), "from contextlib import nullcontext"),
    "math-backend": (
        _wrap_callee("sdpa_kernel(SDPBackend.MATH)"),
        "from torch.nn.attention import SDPBackend, sdpa_kernel",
    ),
}


_SUBSTITUTES_MODULE = f'{INLINE_IMPORT}"theria_lint.worker.autograd_substitutes", fromlist=["mark_kept"])'
KEEP_TENSOR = f"{_SUBSTITUTES_MODULE}.mark_kept"
"""A call of this marks a tensor that the backward is to find on the graph."""

_FORWARD_AUTOGRAD, _REGRAPHED_SAVE = f"{_SUBSTITUTES_MODULE}.ForwardAutograd", f"{_SUBSTITUTES_MODULE}.RegraphedSave"
_FORWARD_METHODS = frozenset({"forward", "setup_context"})


def has_substitute(source: str, suspect: Suspect) -> bool:
    """Whether a stand-in can take the place of a suspect that no rewrite neutralises."""
    return suspect.neutraliser is None and _find_autograd_class(parse_python(source), suspect) is not None


def plan_substitutes(tree: ast.Module, suspects: Iterable[Suspect]) -> tuple[dict[int, str], frozenset[Span]]:
    """The metaclasses that classes take, by the line of ``class``, and the places of the tensors that are marked."""
    metaclasses: dict[int, str] = {}
    marks: set[Span] = set()
    for suspect in suspects:
        function = _find_autograd_class(tree, suspect)
        if function is None:
            continue
        if suspect.symbol.rpartition(".")[2] in _FORWARD_METHODS:
            metaclasses.setdefault(function.lineno, _REGRAPHED_SAVE)
            marks.add(suspect.span)
        else:
            metaclasses[function.lineno] = _FORWARD_AUTOGRAD
    return metaclasses, frozenset(marks)


def _find_autograd_class(tree: ast.Module, suspect: Suspect) -> ast.ClassDef | None:
    """The class with a forward and a backward in one of whose methods a suspect stands."""
    owner, _, method = suspect.symbol.rpartition(".")
    if method not in {"backward", *_FORWARD_METHODS}:
        return None
    found: ast.Module | ast.ClassDef = tree
    for name in owner.split("."):
        classes = (node for node in ast.walk(found) if isinstance(node, ast.ClassDef) and node is not found)
        inner = next((node for node in classes if node.name == name), None)
        if inner is None:
            return None
        found = inner
    methods = {node.name for node in found.body if isinstance(node, ast.FunctionDef)}
    if not isinstance(found, ast.ClassDef) or not {"forward", "backward"} <= methods:
        return None
    return None if any(keyword.arg == "metaclass" for keyword in found.keywords) else found
