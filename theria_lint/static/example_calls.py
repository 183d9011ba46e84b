"""Find calls of attention that stand as plain code in docstrings, pages, tests and ``__main__`` blocks.

Of a block of code the statements are kept that lead to a call: those that make what is called, and all that they need.
"""

from __future__ import annotations

import ast
import doctest
import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

MOST_STATEMENTS = 60
"""A slice of more statements is a program of its own."""

_FENCE = re.compile(r"^[ ]*```[ ]*(?:python|py|python3)?[ ]*\n(.*?)^[ ]*```", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_LITERAL = re.compile(r"(?:::|\bexamples?:?|\busage:?)[ ]*\n\s*\n((?:[ ]+\S.*\n|[ ]*\n)+)", re.IGNORECASE)


class ExampleCall(NamedTuple):
    """Code that calls a target, and the line of its source at which the block that it is from begins."""

    line: int
    code: str


def find_calls_in_page(text: str, names: Collection[str]) -> Iterator[ExampleCall]:
    """The calls of something with one of some names in the fenced code of a page, and in its doctests."""
    for line, block in _list_blocks(text):
        yield from _slice_block(line, block, names)


def find_calls_in_code(text: str, names: Collection[str], *, docstrings: Collection[str] = ()) -> Iterator[ExampleCall]:
    """The calls in a source: in docstrings, in its ``__main__`` block, in tests.

    ``docstrings``: in a target's own file the names of what it is part of, whose docstrings are looked at with the
    module's; what else stands there is known where the code is run.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        named = isinstance(node, ast.Module) or getattr(node, "name", None) in docstrings
        if docstrings and named and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            said = ast.get_docstring(node, clean=False)
            for block_line, block in _list_blocks(said or ""):
                line = node.body[0].lineno + block_line - 1
                yield from _slice_block(line, block, names)
    outside = [] if docstrings else [node for node in tree.body if not _is_main(node)]
    for node in tree.body:
        if isinstance(node, ast.If) and _is_main(node):
            yield from _slice_statements(node.body[0].lineno, outside, node.body, names)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            for test in [node] if isinstance(node, ast.FunctionDef) else node.body:
                if isinstance(test, ast.FunctionDef) and test.name.startswith("test"):
                    given = _bind_parameters(test)
                    if given is not None:
                        yield from _slice_statements(test.lineno, outside, [*given, *test.body], names)


def _list_blocks(text: str) -> Iterator[tuple[int, str]]:
    """The blocks of code in a text, with the line at which each begins."""
    try:
        examples = doctest.DocTestParser().get_examples(text) if ">>>" in text else []
    except ValueError:
        examples = []
    if examples:
        yield examples[0].lineno + 1, "".join(example.source for example in examples)
    for pattern in (_FENCE, _LITERAL):
        for found in pattern.finditer(text):
            if ">>>" not in found[1]:
                yield text.count("\n", 0, found.start(1)) + 1, found[1]


def _slice_block(line: int, block: str, names: Collection[str]) -> Iterator[ExampleCall]:
    try:
        body = ast.parse(textwrap.dedent(block)).body
    except (SyntaxError, ValueError, RecursionError):
        return
    yield from _slice_statements(line, [], body, names)


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) and "__name__" in ast.unparse(node.test)


def _bind_parameters(test: ast.FunctionDef) -> list[ast.stmt] | None:
    """Assignments of the first values that a test is parametrized with; None where a parameter has none."""
    values: dict[str, ast.expr] = {}
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("parametrize"):
            values |= _read_parameters(decorator)
    wanted = [argument.arg for argument in test.args.args if argument.arg != "self"]
    count = len(test.args.defaults)
    needed = wanted[: len(wanted) - count] if count else wanted
    if not set(needed) <= values.keys():
        return None
    defaults = dict(zip(wanted[len(wanted) - count :], test.args.defaults, strict=False)) if count else {}
    given = [ast.Assign([ast.Name(name, ast.Store())], value) for name, value in (defaults | values).items()]
    return [ast.fix_missing_locations(ast.copy_location(assignment, test)) for assignment in given]


def _read_parameters(decorator: ast.Call) -> dict[str, ast.expr]:
    """The first value of each parameter that ``parametrize`` lists."""
    if len(decorator.args) < 2 or not isinstance(decorator.args[1], ast.List | ast.Tuple) or not decorator.args[1].elts:
        return {}
    said, first = decorator.args[0], decorator.args[1].elts[0]
    names = re.findall(r"\w+", said.value) if isinstance(said, ast.Constant) and isinstance(said.value, str) else []
    names = names or [part.value for part in getattr(said, "elts", ()) if isinstance(part, ast.Constant)]
    parts = [first] if len(names) == 1 else list(getattr(first, "elts", ()))
    return dict(zip(names, parts, strict=False)) if len(parts) == len(names) else {}


def _slice_statements(
    line: int, outside: Sequence[ast.stmt], body: Sequence[ast.stmt], names: Collection[str]
) -> Iterator[ExampleCall]:
    """The statements of a body that lead to a call of something with one of the names, and what they need."""
    known, kept = set(names), list[ast.stmt]()
    for statement in _flatten(body):
        used = _list_used(statement)
        if not known.isdisjoint(used) and not isinstance(statement, ast.Import | ast.ImportFrom):
            kept.append(statement)
            known |= _list_bound(statement)
    if not any(isinstance(part, ast.Call) for statement in kept for part in ast.walk(statement)):
        return
    needed = set().union(*map(_list_used, kept))
    chosen = set(map(id, kept))
    everything = [*outside, *_flatten(body)]
    for statement in reversed(everything):
        if id(statement) in chosen or not needed.isdisjoint(_list_bound(statement)):
            chosen.add(id(statement))
            needed |= _list_used(statement)
    code = [statement for statement in everything if id(statement) in chosen]
    if len(code) <= MOST_STATEMENTS:
        yield ExampleCall(line, "\n".join(map(ast.unparse, code)))


def _flatten(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Statements, with those that stand under a ``with`` in its place where it gives no name."""
    found: list[ast.stmt] = []
    for statement in body:
        plain = isinstance(statement, ast.With) and all(item.optional_vars is None for item in statement.items)
        found += _flatten(statement.body) if plain and isinstance(statement, ast.With) else [statement]
    return found


def _list_used(statement: ast.stmt) -> set[str]:
    """The names that a statement reads, and the attributes that it looks up."""
    names = {part.id for part in ast.walk(statement) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
    return names | {part.attr for part in ast.walk(statement) if isinstance(part, ast.Attribute)}


def _list_bound(statement: ast.stmt) -> set[str]:
    """The names that a statement gives something, or changes something of."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    found = {part.id for part in ast.walk(statement) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    for part in ast.walk(statement):
        if isinstance(part, ast.Attribute | ast.Subscript) and isinstance(part.ctx, ast.Store):
            owner = part.value
            found |= {owner.id} if isinstance(owner, ast.Name) else set()
    return found
