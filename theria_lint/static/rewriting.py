"""Neutralise: rewrite a source in memory so that given suspects do nothing.

Only the top-level statements that hold a suspect go through libcst; all other text stays as it is. Each rewrite keeps
the number of lines, so that a traceback or a trace of the variant speaks of the author's own lines.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import cast

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

from ..model import Span, Suspect
from .errors import SourceError
from .syntax import parse
from .text import kept_lines

_IDENTITY = "(lambda theria_f: theria_f)"
_NULL_HOOK = "(lambda *theria_a, **theria_k: None)"
_NULL_CONTEXT = '__import__("contextlib").nullcontext()'
_ATTENTION = '__import__("torch.nn.attention", fromlist=["SDPBackend"])'
_MATH = f"{_ATTENTION}.sdpa_kernel({_ATTENTION}.SDPBackend.MATH)"
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


def neutralise(source: str, suspects: Iterable[Suspect]) -> str:
    """The source with each suspect's ``neutraliser`` applied; see the package's `neutralise`."""
    wanted = {suspect.span: suspect.neutraliser for suspect in suspects if suspect.neutraliser is not None}
    if not wanted:
        return source
    lines = kept_lines(source)
    for first, last in reversed(_chunks(parse(source))):
        inside = {span: name for span, name in wanted.items() if first <= span.line <= last}
        if inside:
            chunk = "".join(lines[first - 1 : last])
            body = chunk.rstrip("\r\n")
            lines[first - 1 : last] = [_rewrite(body, first - 1, inside) + chunk[len(body) :]]
    return "".join(lines)


def _chunks(tree: ast.Module) -> list[tuple[int, int]]:
    """The inclusive line ranges of the top-level statements, those that share a line taken together."""
    chunks: list[tuple[int, int]] = []
    for statement in tree.body:
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
        assert statement.end_lineno is not None
        if chunks and first <= chunks[-1][1]:
            chunks[-1] = (chunks[-1][0], max(chunks[-1][1], statement.end_lineno))
        else:
            chunks.append((first, statement.end_lineno))
    return chunks


def _rewrite(chunk: str, offset: int, wanted: Mapping[Span, str]) -> str:
    """Rewrite the top-level statements of ``chunk``, which begins after line ``offset`` of its file."""
    try:
        wrapper = MetadataWrapper(cst.parse_module(chunk), unsafe_skip_copy=True)
        rewriter = _Rewriter(offset, wanted, wrapper.resolve(PositionProvider), wrapper.module)
        return wrapper.module.visit(rewriter).code
    except cst.ParserSyntaxError as error:
        raise SourceError(offset + error.raw_line, f"cannot be rewritten: {error.message}") from None
    except RecursionError:
        raise SourceError(offset + 1, "cannot be rewritten: it is nested too deeply") from None


class _Rewriter(cst.CSTTransformer):
    """Applies the neutraliser of each wanted span to the node that stands there."""

    def __init__(
        self,
        offset: int,
        wanted: Mapping[Span, str],
        positions: Mapping[cst.CSTNode, CodeRange],
        module: cst.Module,
    ) -> None:
        super().__init__()
        self.offset = offset
        self.wanted = wanted
        self.positions = positions
        self.module = module

    def _span(self, start: cst.CSTNode, end: cst.CSTNode) -> Span:
        first, last = self.positions[start].start, self.positions[end].end
        return Span(first.line + self.offset, first.column + 1, last.line + self.offset, last.column + 1)

    def _neutraliser(self, node: cst.BaseExpression, attribute: cst.BaseExpression) -> str | None:
        """What is wanted of a node: its span is its own, or begins at the name of ``attribute``."""
        found = self.wanted.get(self._span(node, node))
        if found is None and isinstance(attribute, cst.Attribute):
            found = self.wanted.get(self._span(attribute.attr, node))
        return found

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:  # noqa: N802
        neutraliser = self._neutraliser(original_node, original_node.func)
        if neutraliser is None or neutraliser == "drop-decorator":
            return updated_node
        return self._keep_lines(updated_node, _CALLS[neutraliser](updated_node))

    def leave_Attribute(  # noqa: N802
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ) -> cst.BaseExpression:
        if self._neutraliser(original_node, original_node) != "drop-attribute":
            return updated_node
        return self._keep_lines(updated_node, _receiver(updated_node, updated_node))

    def leave_Decorator(self, original_node: cst.Decorator, updated_node: cst.Decorator) -> cst.Decorator:  # noqa: N802
        expression = original_node.decorator
        if self.wanted.get(self._span(expression, expression)) != "drop-decorator":
            return updated_node
        identity = cst.parse_expression(_IDENTITY)
        return updated_node.with_changes(decorator=self._keep_lines(updated_node.decorator, identity))

    def _keep_lines(self, old: cst.BaseExpression, new: cst.BaseExpression) -> cst.BaseExpression:
        """``new``, in parentheses that hold the line ends that it lost."""
        lost = self._line_ends(old) - self._line_ends(new)
        if lost <= 0:
            return new
        first, *rest = [cst.EmptyLine(indent=False)] * lost
        end = cst.TrailingWhitespace(newline=first.newline)
        space = cst.ParenthesizedWhitespace(first_line=end, indent=False, empty_lines=rest)
        left = cst.LeftParen()
        right = cst.RightParen(whitespace_before=space)
        return new.with_changes(lpar=[left, *new.lpar], rpar=[*new.rpar, right])

    def _line_ends(self, node: cst.CSTNode) -> int:
        return len(kept_lines(self.module.code_for_node(node) + ".")) - 1


def _receiver(node: cst.BaseExpression, attribute: cst.Attribute) -> cst.BaseExpression:
    """What stands before the dot, in the parentheses of the whole as well as its own."""
    return _within(node, attribute.value)


def _within(node: cst.BaseExpression, value: cst.BaseExpression) -> cst.BaseExpression:
    lpar, rpar = [*node.lpar, *value.lpar], [*value.rpar, *node.rpar]
    if not lpar and not isinstance(value, _ATOMS):
        lpar, rpar = [cst.LeftParen()], [cst.RightParen()]
    return value.with_changes(lpar=lpar, rpar=rpar)


def _drop_call(call: cst.Call) -> cst.BaseExpression:
    return _receiver(call, call.func) if isinstance(call.func, cst.Attribute) else call


def _first_argument(call: cst.Call) -> cst.BaseExpression:
    if not call.args:
        return cst.parse_expression(_IDENTITY)
    return call if call.args[0].star else _within(call, call.args[0].value)


def _null_context(call: cst.Call) -> cst.BaseExpression:
    return cst.parse_expression(_NULL_CONTEXT)


def _math_backend(call: cst.Call) -> cst.BaseExpression:
    wrapper = cst.parse_expression(_MATH)
    return call.with_changes(func=cst.Call(wrapper, [cst.Arg(call.func)]))


def _with_keyword(call: cst.Call, name: str, value: str) -> cst.Call:
    """The call with ``name=value``, in the place of an argument of that name or as the last one."""
    expression = cst.Name(value)
    args = [
        arg.with_changes(value=expression) if arg.keyword is not None and arg.keyword.value == name else arg
        for arg in call.args
    ]
    if not any(arg.keyword is not None and arg.keyword.value == name for arg in args):
        if args and not isinstance(args[-1].comma, cst.Comma):
            args[-1] = args[-1].with_changes(comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")))
        equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
        args.append(cst.Arg(expression, keyword=cst.Name(name), equal=equal))
    return call.with_changes(args=args)


def _non_reentrant(call: cst.Call) -> cst.BaseExpression:
    return _with_keyword(call, "use_reentrant", "False")


def _create_graph(call: cst.Call) -> cst.BaseExpression:
    return _with_keyword(call, "create_graph", "True")


def _null_hook(call: cst.Call) -> cst.BaseExpression:
    if not call.args:
        return call
    hook = call.args[0].with_changes(value=cst.parse_expression(_NULL_HOOK))
    return call.with_changes(args=[hook, *call.args[1:]])


_CALLS = {
    "drop-call": _drop_call,
    "drop-attribute": lambda call: cast(cst.BaseExpression, call),
    "first-argument": _first_argument,
    "null-context": _null_context,
    "math-backend": _math_backend,
    "non-reentrant": _non_reentrant,
    "create-graph": _create_graph,
    "null-hook": _null_hook,
}
