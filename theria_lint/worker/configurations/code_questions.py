"""Read what code asks of its names: which it tests, and which constants it compares them with."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from theria_lint.worker.find_call.signatures import read_identifier

Constant = bool | int | float | str

HOLDS = "Holds"
"""The operator of ``constant in name``: an option with keys is asked so, and so is a word of several parts."""


@dataclass(frozen=True)
class ConstantComparison:
    """A comparison of a name with a constant: ``name > constant`` has the operator ``Gt``."""

    operator: str
    constant: Constant

    @property
    def flipped(self) -> ConstantComparison:
        """The same with its sides swapped."""
        swapped = {"Gt": "Lt", "Lt": "Gt", "GtE": "LtE", "LtE": "GtE", "In": HOLDS, "NotIn": HOLDS}
        return ConstantComparison(swapped.get(self.operator, self.operator), self.constant)


@dataclass(frozen=True)
class CodeQuestions:
    """What some code asks of its names, be they variables, attributes or parameters of what it calls."""

    tree: ast.AST
    _truths: set[str] = field(default_factory=set)
    _about_none: set[str] = field(default_factory=set)
    _numbers: set[str] = field(default_factory=set)
    _comparisons: dict[str, list[ConstantComparison]] = field(default_factory=dict)
    _aliases: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the code once."""
        for node in ast.walk(self.tree):
            self._read_tests(node)
            self._read_choices(node)
            self._read_aliases(node)

    def is_tested(self, name: str) -> bool:
        """Whether the code asks if what it holds is true, zero or empty."""
        return not self._truths.isdisjoint(self.follow(name))

    def may_be_none(self, name: str) -> bool:
        """Whether the code asks if it is None."""
        return not self._about_none.isdisjoint(self.follow(name)) or self.is_tested(name)

    def is_number(self, name: str) -> bool:
        """Whether the code computes with it, or asks whether it is more or less than something."""
        return not self._numbers.isdisjoint(self.follow(name))

    def list_comparisons(self, name: str) -> list[ConstantComparison]:
        """The comparisons with constants, each once."""
        return list(dict.fromkeys(c for known in self.follow(name) for c in self._comparisons.get(known, ())))

    def is_asked(self, name: str) -> bool:
        """Whether anything is asked of it at all."""
        return self.may_be_none(name) or bool(self.list_comparisons(name))

    @cached_property
    def changing(self) -> frozenset[str]:
        """The attributes and globals that code writes to once what they belong to is made."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Global):
                found.update(node.names)
            elif isinstance(node, ast.FunctionDef) and node.name != "__init__":
                stored = (n for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store))
                found.update(n.attr for n in stored)
        return frozenset(found)

    def follow(self, name: str) -> list[str]:
        """A name and those under which what it holds is known elsewhere: attributes, parameters of what is called."""
        found = [name]
        for known in found:
            found += sorted(self._aliases.get(known, set()) - set(found))
        return found

    def _read_tests(self, node: ast.AST) -> None:
        match node:
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.UnaryOp(ast.Not(), test):
                self._truths.update(_list_identifiers([test]))
            case ast.BoolOp(values=values):
                self._truths.update(_list_identifiers(values))
            case ast.comprehension(ifs=tests):
                self._truths.update(_list_identifiers(tests))
            case ast.Compare():
                self._read_comparison(node)
            case ast.BinOp(left=left, right=right):
                self._numbers.update(_list_identifiers([left, right]))
            case ast.UnaryOp(ast.USub(), operand):
                self._numbers.update(_list_identifiers([operand]))
        for asked in _list_asked(node):
            self._about_none.update(_list_identifiers([asked]))

    def _read_comparison(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            for one, other, swapped in ((left, right, False), (right, left, True)):
                name = read_identifier(one)
                if name is None:
                    continue
                if isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                    self._numbers.add(name)
                if isinstance(other, ast.Constant) and other.value is None:
                    self._about_none.add(name)
                for constant in _list_constants(other):
                    found = ConstantComparison(type(operator).__name__, constant)
                    self._comparisons.setdefault(name, []).append(found.flipped if swapped else found)

    def _read_choices(self, node: ast.AST) -> None:
        """``match name: case constant`` and ``{constant: …}[name]``."""
        match node:
            case ast.Match(subject=subject, cases=cases):
                name, constants = read_identifier(subject), [c for case in cases for c in _list_constants(case.pattern)]
            case (
                ast.Subscript(value=table, slice=key)
                | ast.Call(func=ast.Attribute(value=table, attr="get"), args=[key, *_])
            ):
                name, constants = read_identifier(key), self._list_keys(table)
            case _:
                return
        if name is not None:
            self._comparisons.setdefault(name, []).extend(ConstantComparison("Eq", constant) for constant in constants)

    def _list_keys(self, table: ast.expr) -> list[Constant]:
        displays = [table] if isinstance(table, ast.Dict) else self._tables.get(read_identifier(table) or "", [])
        return [key for display in displays for part in display.keys if part for key in _list_constants(part)]

    @cached_property
    def _tables(self) -> Mapping[str, list[ast.Dict]]:
        """The dictionaries that are written out, by the names that they are bound to."""
        found: dict[str, list[ast.Dict]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                for name in filter(None, map(read_identifier, node.targets)):
                    found.setdefault(name, []).append(node.value)
        return found

    def _read_aliases(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                for one, held in (pair for target in targets for pair in _pair_up(target, value)):
                    self._add_aliases(_list_names_within(held), read_identifier(one))
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._add_aliases(_list_names_within(value), read_identifier(target))
            case ast.Call(func=function, args=arguments, keywords=keywords):
                for keyword in keywords:
                    self._add_aliases(_list_names_within(keyword.value), keyword.arg)
                placed = self._parameters.get(read_identifier(function) or "", [])
                for argument, name in zip(arguments, placed, strict=False):
                    self._add_aliases(_list_names_within(argument), name)

    def _add_aliases(self, names: Iterable[str], alias: str | None) -> None:
        for name in names if alias else ():
            self._aliases.setdefault(name, set()).add(alias or "")

    @cached_property
    def _parameters(self) -> Mapping[str, list[str]]:
        """The parameters of functions and constructors by position, without self, by the names that they are called."""
        found: dict[str, list[str]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef):
                found.setdefault(node.name, _list_parameters(node))
            elif isinstance(node, ast.ClassDef):
                for built in node.body:
                    if isinstance(built, ast.FunctionDef) and built.name == "__init__":
                        found[node.name] = _list_parameters(built)
        return found


def _pair_up(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """What is assigned to what: ``a, b = c, d`` is two assignments."""
    match target, value:
        case (ast.Tuple(elts=targets), ast.Tuple(elts=values)) if len(targets) == len(values):
            return list(zip(targets, values, strict=True))
    return [(target, value)]


def _list_asked(node: ast.AST) -> Iterator[ast.expr]:
    """What a function of the code's own is asked about in a condition: ``if exists(name)``."""
    tests = [node.test] if isinstance(node, ast.If | ast.IfExp) else []
    for test in tests:
        parts = test.values if isinstance(test, ast.BoolOp) else [test]
        for part in parts:
            bare = part.operand if isinstance(part, ast.UnaryOp) else part
            if isinstance(bare, ast.Call) and isinstance(bare.func, ast.Name) and len(bare.args) == 1:
                yield bare.args[0]


def _list_parameters(node: ast.FunctionDef) -> list[str]:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    return names[1:] if names[:1] in (["self"], ["cls"], ["ctx"]) else names


def _list_identifiers(nodes: Iterable[ast.AST]) -> set[str]:
    return {name for name in map(read_identifier, nodes) if name}


def _list_names_within(value: ast.expr) -> set[str]:
    """A name, or those that a choice or a condition is made of: ``flag``, ``flag and other``, ``bool(flag)``."""
    match value:
        case ast.BoolOp(values=parts):
            return {name for part in parts for name in _list_names_within(part)}
        case ast.IfExp(body=body, test=test, orelse=other):
            return {name for part in (body, test, other) for name in _list_names_within(part)}
        case ast.UnaryOp(operand=operand):
            return _list_names_within(operand)
        case ast.Call(args=[only], keywords=[]):
            return _list_names_within(only)
    return _list_identifiers([value])


def _list_constants(node: ast.AST) -> Iterator[Constant]:
    """The constants that something is, or is one of: of an expression or a pattern."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            yield value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            yield -value
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts) | ast.MatchOr(patterns=parts):
            for part in parts:
                yield from _list_constants(part)
        case ast.MatchValue(value=value):
            yield from _list_constants(value)
