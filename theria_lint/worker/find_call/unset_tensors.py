"""Read which arguments that are None by default are given together, and in which forms: memories, positions, scores."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from theria_lint.static import attention_names
from theria_lint.worker.find_call.signatures import Parameters, read_identifier
from theria_lint.worker.find_call.tensor_forms import CALLED, GROWS, TensorForm

_KNOWN_OTHERWISE = re.compile(
    r"mask|len(s|gths?)?(_|$)|seqlens|(^|_)(ids?|idx|ind(ex|ices)|rng|dtype|device|generator|step|type)(_|$)|drop|causal"
    r"|config|label|^(return|use|is|output|need|training)_|scal(e|ing|ar)(_|$)|window|size|chunk|block|_position$"
    r"|^(start|end)_positions$"
)
"""What the names look like of what is no tensor of real numbers, or of one that other tables know."""

_HOLDS_NUMBER = re.compile(r"^\W*(optional|union)?\W*\b(int|bool|str|float)\b", re.IGNORECASE)

_PARTS = re.compile(r"quer(?:y|ies)|keys?|val(?:ue)?s?|[qkv]")
"""What tells the query's, the key's and the value's part of a group of names: ``past_k`` and ``past_v``."""

_OF_VALUES = re.compile(r"(^|_)v(al(ue)?s?)?\d?(_|$)|^v|v$", re.IGNORECASE)

_ENDS = (ast.Return, ast.Continue, ast.Break)
"""Statements after which what follows in their block is not run."""

_MEMORY = re.compile(r"cache|past|mem|prev|state|prefix|kv")
_SCORES = re.compile(r"attn|attention|score|logits|sim|dots|weights|resid|prev|bias")

_MEMORIES = tuple(
    (axes, axes.replace("d", "e"))
    for axes in ("bhsd", "bshd", "bhtd", "bthd", "bsc", "btc", "bsd", "btd", "sbhd", "hsd", "shd", "sd", "td")
)
"""The axes of keys, and of values, from elsewhere: their positions are their own, or those of the queries."""

_TURNED = (("bhds", "bhse"), ("bhdt", "bhte"))
_STACKED = (("2bhsd",), ("2bshd",), ("bs2hd",), ("b2hsd",))
_OF_SCORES = (("bhts",), ("bhtt",), ("btt",), ("bts",), ("htt",), ("tt",))
_OF_POSITIONS = (
    *(("btc",), ("bhtd",), ("bthd",), ("btd",), ("tc",), ("td",), ("tbc",), ("bsc",), ("tsd", "tse"), ("ttd",)),
    *(("bc",), ("c",), ("hd",), ("h",), ("bht",), ("bt",)),
)


Code = ast.expr | ast.stmt


@dataclass(frozen=True)
class Condition:
    """Code that asks whether arguments are given.

    ``names``: which; ``used``: those of which it makes use where it knows; ``test``: the question itself; ``blocks``:
    the code that runs by the answer.
    """

    names: tuple[str, ...]
    used: tuple[str, ...]
    test: Code
    blocks: tuple[tuple[Code, ...], ...]


def list_unset_tensors(parameters: Parameters, fixed: Collection[str]) -> tuple[str, ...]:
    """The parameters that are None by default, and may hold tensors of real numbers."""
    handed = (*attention_names.ATTENTION_PARAMETERS, *attention_names.FUNCTION_PARAMETERS)
    return tuple(
        name
        for name, parameter in parameters.items()
        if parameter.default is None
        and name not in fixed
        and name.lower() not in handed
        and not _KNOWN_OTHERWISE.search(name.lower())
        and not _HOLDS_NUMBER.search(inspect.formatannotation(parameter.annotation))
    )


def read_conditions(tree: ast.AST, unset: Collection[str]) -> list[Condition]:
    """The conditions that ask whether arguments are None, or true; ``exists(name)`` too."""
    return list(_list_conditions(tree, frozenset(unset)))


def group_names(conditions: Iterable[Condition], unset: Sequence[str]) -> list[tuple[str, ...]]:
    """Those of the unset arguments that conditions ask about, in groups: the largest first.

    Names that differ in q, k and v alone go together, those that one condition asks about, and what is used only where
    another is known not to be None.
    """
    known = list(conditions)
    asked = {name for condition in known for name in condition.names}
    together = [{*condition.names, *condition.used} for condition in known]
    found = dict.fromkeys(tuple(n for n in unset if n in group) for group in _join([*_list_stems(unset), *together]))
    groups = sorted((group for group in found if not asked.isdisjoint(group)), key=len, reverse=True)
    groups += [(name,) for name in unset if name in asked]
    return list(dict.fromkeys(groups))


def _list_stems(names: Iterable[str]) -> list[set[str]]:
    """The names that differ in one place, where one says q, another k or v."""
    found: dict[str, set[str]] = {}
    for name in names:
        for part in _PARTS.finditer(name.lower()):
            plural = "s" if part.group()[1:].endswith("s") else ""
            stem = f"{name[: part.start()]}*{plural}{name[part.end() :]}".lower()
            found.setdefault(stem, set()).add(name)
    return [group for group in found.values() if len(group) > 1]


def _list_conditions(tree: ast.AST, unset: frozenset[str]) -> Iterator[Condition]:
    for node in ast.walk(tree):
        for statements in (getattr(node, field, ()) for field in ("body", "orelse", "finalbody")):
            for number, statement in enumerate(statements if isinstance(statements, list) else ()):
                if isinstance(statement, ast.If):
                    rest = list(statements[number + 1 :]) if isinstance(statement.body[-1], _ENDS) else []
                    yield from _make_condition(statement.test, (statement.body, statement.orelse or rest), unset)
        if isinstance(node, ast.IfExp):
            yield from _make_condition(node.test, ([node.body], [node.orelse]), unset)
        elif isinstance(node, ast.BoolOp):
            yield from _make_condition(node.values[0], [[value] for value in node.values[1:]], unset)


def _make_condition(test: ast.expr, blocks: Iterable[Sequence[Code]], unset: frozenset[str]) -> Iterator[Condition]:
    """One that asks about unset arguments, without blocks that refuse what is given."""
    names = tuple(name for name in _list_tested(test) if name in unset)
    if names:
        kept = tuple(tuple(block) for block in blocks if block and not isinstance(block[-1], ast.Raise))
        used = {name for block in kept for part in block for name in _list_names(part) if name in unset}
        yield Condition(names, tuple(sorted(used)), test, kept)


def _list_tested(test: ast.expr) -> Iterator[str]:
    """The names that a condition asks about: whether they are None, or true; ``exists(name)`` too."""
    match test:
        case ast.BoolOp(values=parts):
            for part in parts:
                yield from _list_tested(part)
        case ast.UnaryOp(operand=ast.expr() as operand):
            yield from _list_tested(operand)
        case ast.Compare(left=left, comparators=[ast.Constant(value=None)]):
            yield from filter(None, [read_identifier(left)])
        case ast.Call(args=[only]):
            yield from filter(None, [read_identifier(only)])
        case ast.Name(id=name):
            yield name


def _list_names(node: ast.AST) -> Iterator[str]:
    return (name for part in ast.walk(node) if (name := read_identifier(part)) is not None)


def _join(groups: Iterable[set[str]]) -> list[set[str]]:
    """The groups, those that share a name made one."""
    joined: list[set[str]] = []
    for group in groups:
        rest = [other for other in joined if other.isdisjoint(group)]
        touched = [other for other in joined if not other.isdisjoint(group)]
        joined = [*rest, set().union(group, *touched)]
    return joined


def list_forms(names: tuple[str, ...], tree: ast.AST) -> Iterator[Mapping[str, TensorForm]]:
    """The forms that the arguments of a group have together, the likeliest first."""
    keys = {name: found for name in names if (found := _read_keys(tree, name))}
    text = " ".join(names).lower()
    several = bool(keys or _list_stems(names))
    memories: list[tuple[str, ...]] = [*_MEMORIES, *_TURNED] if several else [*_MEMORIES[:4], *_STACKED, *_MEMORIES[4:]]
    orders: list[Sequence[tuple[str, ...]]] = [_OF_POSITIONS, _OF_SCORES, memories]
    if _SCORES.search(text):
        orders = [_OF_SCORES, memories, _OF_POSITIONS]
    elif (several or _MEMORY.search(text)) and not re.search(r"pos|emb", text):
        orders = [memories, _OF_POSITIONS, _OF_SCORES]
    if not {(GROWS,), (CALLED,)}.isdisjoint(keys.values()):
        yield {name: TensorForm(memories[0], keys.get(name, ())) for name in names}
    for axes in (form for order in orders for form in order):
        yield {
            name: TensorForm(
                axes if name in keys or len(axes) == 1 else axes[_OF_VALUES.search(name) is not None :][:1],
                keys.get(name, ()),
            )
            for name in names
        }


def _read_keys(tree: ast.AST, name: str) -> tuple[int | str, ...]:
    """The entries that code reads of an argument: a tuple's numbers, a mapping's words, a method; or a call of it."""
    found: dict[int | str, None] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=read)) if read == name:
                return (CALLED,)
            case ast.Assign(targets=[ast.Tuple(elts=parts)], value=ast.Name(id=read)) if read == name:
                found.update(dict.fromkeys(range(len(parts))))
            case ast.Subscript(value=ast.Name(id=read), slice=ast.Constant(value=int() | str() as key)) if read == name:
                found[key] = None
            case ast.Call(func=ast.Attribute(value=ast.Name(id=read), attr=method), args=[first, *_]) if read == name:
                if method == "get" and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found[first.value] = None
                elif method == GROWS:
                    return (GROWS,)
    words = tuple(key for key in found if isinstance(key, str))
    numbers = [key for key in found if isinstance(key, int)]
    return words or tuple(range(max(numbers) + 1 if numbers and min(numbers) >= 0 else 2 if numbers else 0))
