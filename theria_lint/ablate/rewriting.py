"""Ablate suspects: rewrite a source in memory so that they do nothing.

Only the top-level statements that hold a suspect go through libcst; all other text stays as it is. A rewrite keeps the
number of lines, so that tracebacks and traces of the variant refer to the lines of the author. With ``tidy`` the result
is for people to read: without the lines that it leaves empty, and with the needed imports at the top.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

from theria_lint.ablate.replacements import (
    add_metaclass,
    differentiate_loss,
    get_imported_replacement,
    get_inline_replacement,
    keep_receiver,
    make_plain_attribute,
    mark_tensor,
    plan_substitutes,
    write_recorded_output,
)
from theria_lint.errors import SourceError
from theria_lint.model import Span, Suspect
from theria_lint.sources.source_text import parse_python, split_keeping_ends

_Definition = cst.FunctionDef | cst.ClassDef


@dataclass(frozen=True)
class _RewriteRequest:
    """What is to be done: neutralisers by place, metaclasses by the line of their class, tensors to be marked."""

    neutralisers: Mapping[Span, str]
    metaclasses: Mapping[int, str]
    marks: Collection[Span]

    def restrict_to_lines(self, first: int, last: int) -> _RewriteRequest:
        """What of it is to be done in some lines."""
        return _RewriteRequest(
            {span: name for span, name in self.neutralisers.items() if first <= span.line <= last},
            {line: name for line, name in self.metaclasses.items() if first <= line <= last},
            {span for span in self.marks if first <= span.line <= last},
        )

    def __bool__(self) -> bool:
        return bool(self.neutralisers or self.metaclasses or self.marks)


def ablate_suspects(source: str, suspects: Iterable[Suspect], *, tidy: bool = False, substitute: bool = False) -> str:
    """The source with each suspect's ``neutraliser`` applied; see the package."""
    suspects = list(suspects)
    tree = parse_python(source)
    fixed = [suspect for suspect in suspects if suspect.neutraliser is None] if substitute else []
    request = _RewriteRequest(
        {s.span: s.neutraliser for s in suspects if s.neutraliser is not None}, *plan_substitutes(tree, fixed)
    )
    if not request:
        return source
    lines = split_keeping_ends(source)
    imports: set[str] = set()
    for first, last in reversed(_list_statement_ranges(tree)):
        inside = request.restrict_to_lines(first, last)
        if inside:
            chunk = "".join(lines[first - 1 : last])
            body = chunk.rstrip("\r\n")
            text, needed = _rewrite_statements(body, first - 1, inside, tidy)
            lines[first - 1 : last] = [text + chunk[len(body) :]]
            imports |= needed
    new = sorted(f"{line}\n" for line in imports if f"{line}\n" not in lines)
    place = _find_first_import(tree)
    return "".join([*lines[:place], *new, *lines[place:]])


def _list_statement_ranges(tree: ast.Module) -> list[tuple[int, int]]:
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


def _find_first_import(tree: ast.Module) -> int:
    """How many lines stand before the first import that is not of ``__future__``."""
    found = (node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    return next((node.lineno - 1 for node in found if getattr(node, "module", None) != "__future__"), 0)


def _rewrite_statements(chunk: str, offset: int, request: _RewriteRequest, tidy: bool) -> tuple[str, set[str]]:
    """Top-level statements that begin after line ``offset`` of their file, rewritten, and the imports they now need."""
    try:
        wrapper = MetadataWrapper(cst.parse_module(chunk), unsafe_skip_copy=True)
        rewriter = _AblationTransformer(offset, request, wrapper.resolve(PositionProvider), wrapper.module, tidy)
        return wrapper.module.visit(rewriter).code, rewriter.imports
    except cst.ParserSyntaxError as error:
        raise SourceError("not_parsed", offset + error.raw_line, message=error.message) from None
    except RecursionError:
        raise SourceError("nested_too_deeply", offset + 1) from None


class _AblationTransformer(cst.CSTTransformer):
    """Applies the neutraliser of each wanted span to the node that stands there."""

    def __init__(
        self,
        offset: int,
        request: _RewriteRequest,
        positions: Mapping[cst.CSTNode, CodeRange],
        module: cst.Module,
        tidy: bool,
    ) -> None:
        super().__init__()
        self.offset = offset
        self.request = request
        self.positions = positions
        self.module = module
        self.tidy = tidy
        self.imports: set[str] = set()
        self._dropped: set[cst.CSTNode] = set()
        self._opened = 0  # how many of the blocks and functions around record what they did not

    def _locate_nodes(self, start: cst.CSTNode, end: cst.CSTNode) -> Span:
        first, last = self.positions[start].start, self.positions[end].end
        return Span(first.line + self.offset, first.column + 1, last.line + self.offset, last.column + 1)

    def _find_neutraliser(self, node: cst.BaseExpression, attribute: cst.BaseExpression) -> str | None:
        """What is wanted of a node: its span is its own, or begins at the name of ``attribute``."""
        found = self.request.neutralisers.get(self._locate_nodes(node, node))
        if found is None and isinstance(attribute, cst.Attribute):
            found = self.request.neutralisers.get(self._locate_nodes(attribute.attr, node))
        return found

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:  # noqa: N802
        neutraliser = self._find_neutraliser(original_node, original_node.func)
        if neutraliser is None or neutraliser == "drop-decorator" or original_node in self._dropped:
            written = write_recorded_output(updated_node) if self._opened else updated_node
            return updated_node if written is updated_node else self._keep_lines(updated_node, written)
        replace, needed = (
            get_imported_replacement(neutraliser) if self.tidy else (get_inline_replacement(neutraliser), None)
        )
        self.imports |= {needed} if needed else set()
        return self._keep_lines(updated_node, replace(updated_node))

    def leave_Assign(  # noqa: N802
        self, original_node: cst.Assign, updated_node: cst.Assign
    ) -> cst.Assign:
        value = original_node.value
        targets = [target.target for target in original_node.targets]
        if any(self._find_neutraliser(target, target) == "set-flag" for target in targets):
            return updated_node.with_changes(value=cst.Name("True"))
        plain = isinstance(value, cst.Call) and self._find_neutraliser(value, value.func) == "plain-attribute"
        if not plain:
            return updated_node
        plain_targets = [
            target.with_changes(target=make_plain_attribute(target.target))
            if isinstance(target.target, cst.Attribute)
            else target
            for target in updated_node.targets
        ]
        return updated_node.with_changes(targets=plain_targets)

    def leave_Attribute(  # noqa: N802
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ) -> cst.BaseExpression:
        neutraliser = self._find_neutraliser(original_node, original_node)
        if neutraliser == "kept-loss":
            self.imports |= {"import torch"} if self.tidy else set()
            return self._keep_lines(updated_node, differentiate_loss(updated_node, tidy=self.tidy))
        if neutraliser != "drop-attribute":
            return updated_node
        return self._keep_lines(updated_node, keep_receiver(updated_node, updated_node))

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:  # noqa: N802
        self._opened += self._loses_decorator(node)

    def leave_FunctionDef(  # noqa: N802
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef:
        self._opened -= self._loses_decorator(original_node)
        return updated_node.with_changes(**self._drop_decorators(original_node, updated_node))

    def leave_ClassDef(self, original_node: cst.ClassDef, updated_node: cst.ClassDef) -> cst.ClassDef:  # noqa: N802
        updated_node = updated_node.with_changes(**self._drop_decorators(original_node, updated_node))
        line = self.positions[original_node.name].start.line + self.offset
        return add_metaclass(updated_node, self.request.metaclasses.get(line))

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> Any:
        """Mark what a stand-in is to find, beside what the methods for single kinds of nodes do."""
        updated = super().on_leave(original_node, updated_node)
        if not self.request.marks or not isinstance(updated, cst.BaseExpression):
            return updated
        return (
            mark_tensor(updated) if self._locate_nodes(original_node, original_node) in self.request.marks else updated
        )

    def _drop_decorators(self, original: _Definition, updated: _Definition) -> dict[str, list[cst.CSTNode]]:
        """Empty lines, or none, where the unwanted decorators stood; comments stay."""
        kept: list[cst.CSTNode] = []
        above: list[cst.CSTNode] = []
        for old, new in zip(original.decorators, updated.decorators, strict=True):
            if self._is_dropped(old):
                above += [*new.leading_lines, *self._leave_empty_lines(old, new.trailing_whitespace)]
            else:
                kept.append(new.with_changes(leading_lines=[*above, *new.leading_lines]))
                above = []
        return {"decorators": kept, "lines_after_decorators": [*above, *updated.lines_after_decorators]}

    def _is_dropped(self, decorator: cst.Decorator) -> bool:
        place = self._locate_nodes(decorator.decorator, decorator.decorator)
        return self.request.neutralisers.get(place) == "drop-decorator"

    def _loses_decorator(self, node: cst.FunctionDef) -> bool:
        return any(map(self._is_dropped, node.decorators))

    def visit_With(self, node: cst.With) -> None:  # noqa: N802
        self._opened += self._loses_context(node)
        calls = [item.item for item in node.items if item.asname is None and self._is_null_context(item.item)]
        if node.asynchronous is None and calls and self._has_plain_header(node):
            self._dropped.update(calls)

    def _loses_context(self, node: cst.With) -> bool:
        return any(self._is_null_context(item.item) for item in node.items)

    def _is_null_context(self, node: cst.BaseExpression) -> bool:
        return isinstance(node, cst.Call) and self._find_neutraliser(node, node.func) == "null-context"

    def _has_plain_header(self, node: cst.With) -> bool:
        """Whether the head stands on one line, and no comment would lose the block that it stands in."""
        first, last = self.positions[node].start.line, self.positions[node.items[-1]].end.line
        block = isinstance(node.body, cst.IndentedBlock) and not node.body.footer
        return first == last and not isinstance(node.lpar, cst.LeftParen) and block

    def leave_With(  # noqa: N802
        self, original_node: cst.With, updated_node: cst.With
    ) -> cst.With | cst.FlattenSentinel[cst.BaseStatement]:
        self._opened -= self._loses_context(original_node)
        pairs = zip(original_node.items, updated_node.items, strict=True)
        items = [new for old, new in pairs if old.item not in self._dropped]
        if len(items) == len(updated_node.items):
            return updated_node
        if items:
            items[-1] = items[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
            return updated_node.with_changes(items=items)
        assert isinstance(updated_node.body, cst.IndentedBlock)
        first, *rest = updated_node.body.body
        head = [*updated_node.leading_lines, *self._leave_empty_lines(original_node.items[0], updated_node.body.header)]
        return cst.FlattenSentinel(
            [first.with_changes(leading_lines=[*head, *getattr(first, "leading_lines", ())]), *rest]
        )

    def _leave_empty_lines(self, node: cst.CSTNode, end: cst.TrailingWhitespace) -> Sequence[cst.EmptyLine]:
        """What is left of the lines of a node that is dropped: its comment, and empty lines where lines are kept."""
        place = self.positions[node]
        count = 0 if self.tidy else place.end.line - place.start.line + (end.comment is None)
        comment = [cst.EmptyLine(comment=end.comment)] if end.comment is not None else []
        return [*[cst.EmptyLine(indent=False)] * count, *comment]

    def _keep_lines(self, old: cst.BaseExpression, new: cst.BaseExpression) -> cst.BaseExpression:
        """``new``, in parentheses that hold the line ends that it lost, or that it needs to span its lines."""
        lost = 0 if self.tidy else self._count_line_ends(old) - self._count_line_ends(new)
        if lost <= 0:
            return (
                new if new.lpar or self._can_stand_alone(new) else _wrap_in_parentheses(new, cst.SimpleWhitespace(""))
            )
        first, *rest = [cst.EmptyLine(indent=False)] * lost
        end = cst.TrailingWhitespace(newline=first.newline)
        return _wrap_in_parentheses(new, cst.ParenthesizedWhitespace(first_line=end, indent=False, empty_lines=rest))

    def _count_line_ends(self, node: cst.CSTNode) -> int:
        return len(split_keeping_ends(self.module.code_for_node(node) + ".")) - 1

    def _can_stand_alone(self, node: cst.BaseExpression) -> bool:
        """Whether an expression can stand on its own: one that breaks its line needs brackets to do so."""
        if not self._count_line_ends(node):
            return True
        try:
            ast.parse(self.module.code_for_node(node))
        except SyntaxError:
            return False
        return True


def _wrap_in_parentheses(node: cst.BaseExpression, before_end: cst.BaseParenthesizableWhitespace) -> cst.BaseExpression:
    right = cst.RightParen(whitespace_before=before_end)
    return node.with_changes(lpar=[cst.LeftParen(), *node.lpar], rpar=[*node.rpar, right])
