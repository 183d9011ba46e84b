"""A parsed module as detectors query it: attention code, resolved names and calls, spans in the text."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

from theria_lint.model import Span
from theria_lint.rules.loader import CONSTRUCTION
from theria_lint.sources.source_text import split_lines
from theria_lint.static import attention_names
from theria_lint.static.attention_code import AttentionCode
from theria_lint.static.class_lineage import CALL_ENTRIES, find_methods_of, is_autograd_function
from theria_lint.static.scopes import (
    FunctionNode,
    ModuleIndex,
    NameTable,
    Scope,
    build_index,
    get_dotted_name,
    is_device_kernel,
)

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Hit:
    """What a detector found: ``token`` and ``detail`` fill the message, ``variant`` picks it.

    The remedy goes by ``cure`` or, where there is none, by the variant too.
    """

    node: ast.AST
    span: Span
    token: str
    scope: Scope
    reach: tuple[int, int]
    neutraliser: str | None
    variant: str | None = None
    detail: str = ""
    cure: str | None = None


# The nodes that detectors ask about.
_DETECTOR_NODES = frozenset({ast.Call, ast.Attribute, ast.Name, ast.BinOp})


@dataclass(slots=True)
class CodeSite:
    """A node in a function's own code, or in its decorators: ``names`` is the table that its names mean."""

    node: ast.AST
    scope: Scope
    names: NameTable
    in_header: bool


@dataclass(slots=True)
class ResolvedName:
    """A name or attribute and the dotted paths that it may mean."""

    site: CodeSite
    meanings: tuple[str, ...]


@dataclass(slots=True)
class ResolvedCall:
    """A call and the dotted paths that its callee may mean."""

    site: CodeSite
    node: ast.Call
    meanings: tuple[str, ...]


class ModuleView:
    """A parsed module with everything that detectors ask about it."""

    def __init__(self, source: str, tree: ast.Module, roots: Collection[str] = ()) -> None:
        """``roots`` as in `AttentionCode`."""
        self.lines = split_lines(source)
        self.index: ModuleIndex = build_index(tree)
        self.attention = AttentionCode(self.index, roots)
        self._columns: dict[int, list[int]] = {}
        self._sites: dict[str, list[CodeSite]] = {}
        self._named: dict[str, list[ResolvedName]] = {}
        self._meant: dict[str, dict[str, list[ResolvedName]]] = {}
        self._calls: dict[str, list[ResolvedCall]] = {}
        self._answers: dict[tuple[Callable[..., object], object], object] = {}

    def ask(self, question: Callable[[Scope], _Answer], scope: Scope) -> _Answer:
        """What a function says of a scope: it is asked once, however many suspects the scope holds."""
        return self._remember(question, scope)

    def ask_within(self, question: Callable[[ModuleView, Scope], _Answer], scope: Scope) -> _Answer:
        """The same of a function that looks at the rest of the module as well."""
        return self._remember(question, self, scope)

    def _remember(self, question: Callable[..., _Answer], *asked: object) -> _Answer:
        key = (question, asked[-1])
        if key not in self._answers:
            self._answers[key] = question(*asked)
        return cast("_Answer", self._answers[key])

    @cached_property
    def member_reads(self) -> dict[str, list[ast.Attribute]]:
        """Where attention code reads each attribute, of whatever it is: not where it writes an entry of one."""
        table: dict[str, list[ast.Attribute]] = {}
        for scope in self.active:
            for node in scope.select_nodes(ast.Attribute):
                if isinstance(node.ctx, ast.Load) and not self._is_written_into(node):
                    table.setdefault(node.attr, []).append(node)
        return table

    def _is_written_into(self, node: ast.expr) -> bool:
        """Whether an expression is one of which an entry is written: ``self.seen`` of ``self.seen[0] = x``."""
        parent = self.index.parents.get(node)
        while isinstance(parent, ast.Subscript) and parent.value is node:
            if not isinstance(parent.ctx, ast.Load):
                return True
            node, parent = parent, self.index.parents.get(parent)
        return False

    @cached_property
    def active(self) -> list[Scope]:
        """The functions that run when attention is computed, in source order."""
        return [scope for scope in self.index.iter_functions() if scope in self.attention.active]

    @cached_property
    def everywhere(self) -> list[Scope]:
        """Every function that is no test and no device kernel, and the module and class bodies, in source order."""
        return [
            scope
            for scope in self.index.scopes
            if not attention_names.is_test_name(scope.name) and not is_device_kernel(scope)
        ]

    @cached_property
    def autograd_functions(self) -> list[Scope]:
        """The ``autograd.Function`` classes that are attention code."""
        active = self.attention.active
        return [
            scope
            for scope in self.index.iter_classes()
            if is_autograd_function(self.index, scope) and any(child in active for child in scope.children)
        ]

    @cached_property
    def kept_results(self) -> list[ResolvedName]:
        """What is called outside attention code, and its result given a name, by modules, classes and constructors."""
        attention = self.attention
        found: list[ResolvedName] = []
        for scope in self.everywhere:
            if scope in attention.active or (scope.kind == "function" and scope not in attention.setup):
                continue
            for node in scope.select_nodes(ast.Assign):
                if isinstance(node.value, ast.Call) and (meanings := scope.names.resolve_node(node.value.func)):
                    found.append(ResolvedName(CodeSite(node.value.func, scope, scope.names, False), meanings))
        return found

    def find_sites(self, where: str = "attention") -> list[CodeSite]:
        """The nodes of attention code, or of another part of the module, in source order."""
        if where not in self._sites:
            self._sites[where] = list(self._collect_sites(where))
        return self._sites[where]

    def _collect_sites(self, where: str) -> Iterator[CodeSite]:
        for scope in self._select_scopes(where):
            assert scope.kind == "module" or scope.parent is not None
            if scope.parent is not None and scope.kind == "function":
                yield from [CodeSite(node, scope, scope.parent.names, True) for node in scope.header]
            yield from [
                CodeSite(node, scope, scope.names, False) for node in scope.nodes if type(node) in _DETECTOR_NODES
            ]

    def find_names(self, where: str = "attention") -> list[ResolvedName]:
        """The names and attributes among `find_sites` that an import or assignment gives a meaning."""
        if where not in self._named:
            found: list[ResolvedName] = []
            for site in self.find_sites(where):
                if isinstance(site.node, ast.Name | ast.Attribute):
                    meanings = site.names.resolve_node(site.node)
                    if meanings:
                        found.append(ResolvedName(site, meanings))
            self._named[where] = found
        return self._named[where]

    def find_meanings(self, where: str, paths: frozenset[str]) -> list[ResolvedName]:
        """Those of `find_names` that may mean one of some paths: of the many names few do."""
        if where not in self._meant:
            table = self._meant[where] = dict[str, list[ResolvedName]]()
            for name in self.find_names(where):
                for meaning in name.meanings:
                    table.setdefault(meaning, []).append(name)
        table = self._meant[where]
        found = {id(name): name for path in sorted(paths & table.keys()) for name in table[path]}
        return list(found.values())

    def find_calls(self, where: str = "attention") -> list[ResolvedCall]:
        """The calls among `find_sites`, with what the callee's name may mean."""
        if where not in self._calls:
            self._calls[where] = [
                ResolvedCall(site, node, site.names.resolve_node(node.func))
                for site, node in self._collect_calls(where)
            ]
        return self._calls[where]

    def _collect_calls(self, where: str) -> Iterator[tuple[CodeSite, ast.Call]]:
        for scope in self._select_scopes(where):
            if scope.parent is not None and scope.kind == "function":
                for node in scope.header:
                    if isinstance(node, ast.Call):
                        yield CodeSite(node, scope, scope.parent.names, True), node
            yield from ((CodeSite(call, scope, scope.names, False), call) for call in scope.select_nodes(ast.Call))

    def _select_scopes(self, where: str) -> list[Scope]:
        if where == "anywhere":
            return self.everywhere
        if where == CONSTRUCTION:
            known = self.attention.active | self.attention.setup
            return [scope for scope in self.index.iter_functions() if scope in known]
        if where == "autograd-function":
            active = self.attention.active
            return [child for owner in self.autograd_functions for child in owner.children if child in active]
        return self.active

    def get_span(self, node: ast.AST) -> Span:
        """The place of a whole expression or statement."""
        assert isinstance(node, ast.expr | ast.stmt)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return Span(
            node.lineno,
            self.compute_column(node.lineno, node.col_offset),
            node.end_lineno,
            self.compute_column(node.end_lineno, node.end_col_offset),
        )

    def get_member_span(self, attribute: ast.Attribute, node: ast.expr) -> Span:
        """From an attribute's name to the end of ``node``, a call of it or itself: ``detach()`` of ``x.detach()``."""
        whole = self.get_span(node)
        end = self.get_span(attribute)
        column = end.end_column - len(attribute.attr)
        if not self.lines[end.end_line - 1].startswith(attribute.attr, column - 1):
            return whole  # an identifier that Python normalises is not spelt as the tree says
        return Span(end.end_line, column, whole.end_line, whole.end_column)

    def compute_column(self, line: int, offset: int) -> int:
        """The 1-based column in characters of a 0-based offset in UTF-8 bytes."""
        text = self.lines[line - 1]
        if text.isascii():
            return offset + 1
        if line not in self._columns:
            self._columns[line] = _list_columns(text)
        return self._columns[line][offset]


def _list_columns(text: str) -> list[int]:
    """The 1-based column of the character at each offset in UTF-8 bytes, and of the end."""
    found = [column for column, character in enumerate(text, 1) for _ in character.encode("utf-8", "surrogatepass")]
    return [*found, len(text) + 1]


def get_lines(node: ast.AST) -> tuple[int, int]:
    """The inclusive range of lines of an expression or statement."""
    assert isinstance(node, ast.expr | ast.stmt)
    assert node.end_lineno is not None
    return node.lineno, node.end_lineno


def get_body_lines(function: FunctionNode) -> tuple[int, int]:
    """The inclusive range of lines of a function's body, its docstring left out: what runs when it is called."""
    body = function.body
    first = body[1] if len(body) > 1 and ast.get_docstring(function, clean=False) is not None else body[0]
    assert body[-1].end_lineno is not None
    return first.lineno, body[-1].end_lineno


def list_meanings(names: frozenset[str], candidates: tuple[str, ...]) -> str:
    """What a name may mean, when some candidates are listed and some are not; nothing otherwise."""
    if names.issuperset(candidates) or len(candidates) < 2:
        return ""
    return " or ".join(candidates)


def refers_to_attention(code: ModuleView, scope: Scope, expression: ast.expr) -> bool:
    """Whether an expression names a function or class of the file that is attention code."""
    name = get_dotted_name(expression)
    if name is None or name in scope.parameters:
        return False
    for found in code.index.by_name.get(name.rpartition(".")[2], ()):
        if found in code.attention.active:
            return True
        if found.kind == "class":
            entries = [entry for entry_name in CALL_ENTRIES for entry in find_methods_of(code.index, found, entry_name)]
            if any(entry in code.attention.active for entry in entries):
                return True
    return False
