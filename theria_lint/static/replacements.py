"""What takes the place of a call that a rewrite neutralises."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import libcst as cst

from .substitution import KEPT
from .text import INLINED

IDENTITY = "(lambda f: f)"
_NULL_HOOK = "lambda *_, **__: None"
_ATTENTION = f'{INLINED}"torch.nn.attention", fromlist=["SDPBackend"])'
_ATOMS = (
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


def inlined(neutraliser: str) -> Replacement:
    """The replacement of a call by a neutraliser; it adds no line and needs no import."""
    return _CALLS[neutraliser]


def imported(neutraliser: str) -> tuple[Replacement, str | None]:
    """The replacement that an author would write, and the import that it needs at the top of the file."""
    return _IMPORTED.get(neutraliser, (inlined(neutraliser), None))


def marked(node: cst.BaseExpression) -> cst.BaseExpression:
    """A call that marks a tensor."""
    return cst.Call(cst.parse_expression(KEPT), [cst.Arg(node)])


def with_metaclass(node: cst.ClassDef, metaclass: str | None) -> cst.ClassDef:
    """A class with a metaclass, if one is given."""
    if metaclass is None:
        return node
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    keyword = cst.Arg(cst.parse_expression(metaclass), keyword=cst.Name("metaclass"), equal=equal)
    return node.with_changes(keywords=[*node.keywords, keyword])


def receiver(node: cst.BaseExpression, attribute: cst.Attribute) -> cst.BaseExpression:
    """What stands before the dot, in the parentheses of the whole as well as its own."""
    return _within(node, attribute.value)


def _within(node: cst.BaseExpression, value: cst.BaseExpression) -> cst.BaseExpression:
    lpar, rpar = [*node.lpar, *value.lpar], [*value.rpar, *node.rpar]
    if not lpar and not isinstance(value, _ATOMS):
        lpar, rpar = [cst.LeftParen()], [cst.RightParen()]
    return value.with_changes(lpar=lpar, rpar=rpar)


def _drop_call(call: cst.Call) -> cst.BaseExpression:
    return receiver(call, call.func) if isinstance(call.func, cst.Attribute) else call


def _first_argument(call: cst.Call) -> cst.BaseExpression:
    if not call.args:
        return cst.parse_expression(IDENTITY)
    return call if call.args[0].star else _within(call, call.args[0].value)


def _constant(text: str) -> Replacement:
    return lambda call: cst.parse_expression(text)


def _wrapped(wrapper: str) -> Replacement:
    """``f(x)`` becomes ``wrapper(f)(x)``."""
    return lambda call: call.with_changes(func=cst.Call(cst.parse_expression(wrapper), [cst.Arg(call.func)]))


def _with_keyword(name: str, value: str) -> Replacement:
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


def _null_hook(call: cst.Call) -> cst.BaseExpression:
    if not call.args:
        return call
    hook = call.args[0].with_changes(value=cst.parse_expression(_NULL_HOOK))
    return call.with_changes(args=[hook, *call.args[1:]])


_CALLS: dict[str, Replacement] = {
    "drop-call": _drop_call,
    "drop-attribute": lambda call: cast(cst.BaseExpression, call),
    "first-argument": _first_argument,
    "null-context": _constant(f'{INLINED}"contextlib").nullcontext()'),
    "math-backend": _wrapped(f"{_ATTENTION}.sdpa_kernel({_ATTENTION}.SDPBackend.MATH)"),
    "non-reentrant": _with_keyword("use_reentrant", "False"),
    "create-graph": _with_keyword("create_graph", "True"),
    "null-hook": _null_hook,
}

_IMPORTED: dict[str, tuple[Replacement, str]] = {
    "null-context": (_constant("nullcontext()"), "from contextlib import nullcontext"),
    "math-backend": (
        _wrapped("sdpa_kernel(SDPBackend.MATH)"),
        "from torch.nn.attention import SDPBackend, sdpa_kernel",
    ),
}
