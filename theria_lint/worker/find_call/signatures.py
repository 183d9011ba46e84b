"""Read what a target takes without calling it: parameters, annotations, source, and the shapes that its text gives."""

from __future__ import annotations

import ast
import dataclasses
import dis
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType, SimpleNamespace
from typing import Any, get_args, get_type_hints

import torch
from torch import nn

from theria.probes.layouts import Shape

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class NoSuchChoiceError(LookupError):
    """A parameter has fewer candidates than the choice asks for: nothing new to try."""


def read_parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters by name; those of scripted code stand in its schema."""
    schema = getattr(function, "schema", None)
    if schema is None or inspect.isfunction(function):
        return dict(inspect.signature(function).parameters)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return {
        a.name: inspect.Parameter(
            a.name, kind, default=a.default_value if a.has_default_value() else inspect.Parameter.empty
        )
        for a in schema.arguments
    }


def read_call_parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters by name, with what the code reads of its ``**kwargs`` among them."""
    parameters = read_parameters(function)
    open_ended = next((p.name for p in parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD), None)
    if open_ended is not None:
        for node in ast.walk(parse_source(function)):
            for found in list_keyword_uses(node, open_ended):
                parameters.setdefault(found.name, found)
    return parameters


def list_keyword_uses(node: ast.AST, kwargs: str) -> Iterator[inspect.Parameter]:
    """``kwargs["x"]``, ``kwargs.pop("x")``, ``kwargs.get("x", default)``; not where the default is computed."""

    def is_kwargs(value: ast.expr) -> bool:
        return isinstance(value, ast.Name) and value.id == kwargs

    match node:
        case ast.Subscript(value=value, slice=ast.Constant(value=str(key))) if is_kwargs(value):
            yield make_keyword_parameter(key)
        case ast.Call(
            func=ast.Attribute(value=value, attr="pop" | "get" | "setdefault" as how),
            args=[ast.Constant(value=str(key)), *rest],
        ) if is_kwargs(value):
            if not rest:
                yield make_keyword_parameter(key, *([None] if how == "get" else []))
            elif isinstance(rest[0], ast.Constant):
                yield make_keyword_parameter(key, rest[0].value)


def make_keyword_parameter(name: str, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """A parameter that is given by name."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)


def takes_by_position(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether a parameter can be given by position alone."""
    return any(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in parameters.values())


def order_by_position(parameters: Mapping[str, inspect.Parameter], by_name: Mapping[str, Any]) -> list[Any]:
    """Arguments by position, up to the last one that is given; defaults fill the gaps."""
    names = [n for n, p in parameters.items() if p.kind in POSITIONAL]
    last = max((i for i, name in enumerate(names) if name in by_name), default=-1)
    return [by_name.get(name, parameters[name].default) for name in names[: last + 1]]


def as_a_caller(
    parameters: Mapping[str, inspect.Parameter], by_name: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as people write them: by position what has no default, up to the first that has one, the rest by name.

    Hooks of modules see positional arguments alone, and a wrapper that takes ``*args`` knows no names.
    """
    named, positional = dict(by_name), list[Any]()
    for name, parameter in parameters.items():
        if parameter.kind not in POSITIONAL or parameter.default is not inspect.Parameter.empty or name not in named:
            break
        positional.append(named.pop(name))
    return positional, named


def read_identifier(node: ast.AST) -> str | None:
    """The name of a variable or an attribute; None for what is neither."""
    return getattr(node, "id", None) or getattr(node, "attr", None)


def parse_source(code: Any) -> ast.AST:
    """The syntax tree of a function or a class."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(code))))
    except (OSError, TypeError, SyntaxError, ValueError):
        return ast.Module([], [])


def returns_function(maker: Any) -> bool:
    """Whether a function gives a function of its own, by what its text says, rather than tensors."""
    found = next(iter(getattr(parse_source(maker), "body", ())), None) if isinstance(maker, FunctionType) else None
    if not isinstance(found, ast.FunctionDef):
        return False
    inner = {node.name for node in found.body if isinstance(node, ast.FunctionDef)}
    stack: list[ast.AST] = [*found.body]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Return) and (
            isinstance(node.value, ast.Lambda) or getattr(node.value, "id", None) in inner
        ):
            return True
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            stack += ast.iter_child_nodes(node)
    return False


def read_type_hints(function: Any) -> Mapping[str, Any]:
    """What the parameters of a function are annotated with."""
    try:
        return get_type_hints(function)
    except Exception:  # names that are not defined, and worse
        return {}


def read_forward_parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of ``apply``: those of forward, without ctx unless setup_context takes it."""
    parameters = read_parameters(function.forward)
    separate = function.setup_context is not torch.autograd.Function.setup_context
    return parameters if separate else dict(list(parameters.items())[1:])


Parameters = Mapping[str, inspect.Parameter]

_MAX_CONSTRUCTORS = 4
"""How many constructors keyword arguments are followed through."""


@lru_cache(maxsize=256)
def read_constructor_parameters(cls: Any) -> Parameters:
    """The parameters of a class's ``__init__`` without self.

    What it reads from its ``**kwargs``, and what the constructors and functions take that it hands them to, stand among
    the rest as keyword-only parameters.
    """
    return _follow_constructor(cls, cls, _MAX_CONSTRUCTORS)


def takes_any_keyword(parameters: Parameters) -> bool:
    """Whether any keyword argument is taken."""
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _follow_constructor(cls: Any, start: Any, steps: int) -> Parameters:
    """What building a ``cls`` takes from the constructor of ``start`` on, a class in its resolution order."""
    owner = _find_constructor_owner(cls, start)
    if owner is None or owner is nn.Module:
        return {}
    named = dict(list(read_parameters(owner.__init__).items())[1:])
    open_ended = next((p.name for p in named.values() if p.kind is inspect.Parameter.VAR_KEYWORD), None)
    if open_ended is None or not steps:
        return named
    taken = _ConstructorSource(cls, owner, open_ended, steps).read_keyword_parameters()
    return {**named, **{name: parameter for name, parameter in taken.items() if name not in named}}


def _find_constructor_owner(cls: Any, start: Any) -> Any:
    """The class, ``start`` or after it in the order of resolution, that defines the constructor; None for object."""
    order = list(cls.__mro__)
    return next((c for c in order[order.index(start) :] if "__init__" in vars(c) and c is not object), None)


@dataclass(frozen=True)
class _ConstructorSource:
    """The code of the constructor that ``owner`` defines, as it builds a ``cls``; ``name``: its ``**`` parameter."""

    cls: Any
    owner: Any
    name: str
    steps: int

    def read_keyword_parameters(self) -> dict[str, inspect.Parameter]:
        """What stands behind the ``**`` parameter; less what the code refuses, or asks for in case it is there."""
        nodes = list(ast.walk(parse_source(self.owner.__init__)))
        found: dict[str, inspect.Parameter] = {}
        for node in nodes:
            if isinstance(node, ast.Call):
                found |= {name: p for name, p in self._read_forwarded_keywords(node).items() if name not in found}
        for node in nodes:
            found.update((p.name, p) for p in list_keyword_uses(node, self.name))
        for node in nodes:
            if isinstance(node, ast.Compare) and any(self._is_kwargs(c) for c in node.comparators):
                found.pop(getattr(node.left, "value", ""), None)
        return found

    def _is_kwargs(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == self.name

    def _read_forwarded_keywords(self, call: ast.Call) -> dict[str, inspect.Parameter]:
        """What the object that is called with ``**kwargs`` takes beside what the call gives it itself."""
        if not any(keyword.arg is None and self._is_kwargs(keyword.value) for keyword in call.keywords):
            return {}
        parameters = dict(self._read_callee_parameters(call.func))
        named = {keyword.arg for keyword in call.keywords}
        plain = next((i for i, a in enumerate(call.args) if isinstance(a, ast.Starred)), len(call.args))
        placed = [name for name, p in parameters.items() if p.kind in POSITIONAL][:plain]
        return {
            name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in parameters.items()
            if name not in named
            and name not in placed
            and parameter.kind in (*POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
        }

    def _read_callee_parameters(self, function: ast.expr) -> Parameters:
        match function:
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"):
                order = list(self.cls.__mro__)
                return _follow_constructor(self.cls, order[order.index(self.owner) + 1], self.steps - 1)
            case ast.Attribute(value=parent, attr="__init__") if inspect.isclass(
                found := self._resolve_dotted_name(parent)
            ):
                return {
                    "self": make_keyword_parameter("self").replace(kind=POSITIONAL[1]),
                    **_follow_constructor(found, found, self.steps - 1),
                }
        found = self._resolve_dotted_name(function)
        if inspect.isclass(found):
            return _follow_constructor(found, found, self.steps - 1)
        return read_parameters(found) if inspect.isfunction(found) else {}

    def _resolve_dotted_name(self, node: ast.expr) -> Any:
        """The object that a dotted name stands for in the constructor's module, None where it is no such name."""
        if isinstance(node, ast.Name):
            return getattr(inspect.unwrap(self.owner.__init__), "__globals__", {}).get(node.id)
        return (
            getattr(self._resolve_dotted_name(node.value), node.attr, None) if isinstance(node, ast.Attribute) else None
        )


@dataclass(frozen=True)
class StructuredInput:
    """A parameter that is an object with fields, what these are as parameters, and what makes the object of them."""

    parameter: str
    fields: Parameters
    make: Callable[..., Any]

    def expand_parameters(self, forward: Parameters) -> dict[str, inspect.Parameter]:
        """The parameters of a forward with the fields in the record's place."""
        rest = {name: p for name, p in forward.items() if name != self.parameter}
        return {**self.fields, **rest}

    def pack_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the forward, the record made of those that are fields."""
        fields = {name: value for name, value in arguments.items() if name in self.fields}
        rest = {name: value for name, value in arguments.items() if name not in self.fields}
        return {**rest, self.parameter: self.make(**fields)}


def find_structured_input(cls: Any) -> StructuredInput | None:
    """The parameter of a module's forward that is a record: any by its annotation, the first by what the code reads."""
    parameters = dict(list(inspect.signature(cls.forward).parameters.items())[1:])
    needed = [n for n, p in parameters.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    hints = read_type_hints(cls.forward)
    for name in needed:
        found = _read_annotated_fields(hints.get(name), any_fields=name == needed[0])
        found = found or (_read_used_fields(name, parse_source(cls.forward)) if name == needed[0] else None)
        if found is not None and not found[0].keys() & (parameters.keys() - {name}):
            return StructuredInput(name, *found)
    return None


def _read_annotated_fields(hint: Any, *, any_fields: bool) -> tuple[Parameters, Callable[..., Any]] | None:
    """The fields of a class that only holds them, tensors among them unless ``any_fields``, and what makes one."""
    for owner in (hint, *get_args(hint)):
        if not inspect.isclass(owner) or issubclass(owner, nn.Module):
            continue
        if issubclass(owner, dict) and hasattr(owner, "__total__"):
            return _make_field_parameters(owner.__annotations__), dict
        if dataclasses.is_dataclass(owner) or (issubclass(owner, tuple) and hasattr(owner, "_fields")):
            fields = dict(inspect.signature(owner).parameters)
            if any_fields or any("Tensor" in str(field.annotation) for field in fields.values()):
                return fields, owner
    return None


def _read_used_fields(name: str, tree: ast.AST) -> tuple[Parameters, Callable[..., Any]] | None:
    """What the code reads of an argument by constant keys, or by attributes that no tensor has."""
    keys, attributes = list(_list_constant_keys(name, tree)), list(_list_read_attributes(name, tree))
    if keys:
        names = {key if key.isidentifier() else f"{name}_{re.sub(r'[^0-9a-zA-Z_]', '_', key)}": key for key in keys}
        return _make_field_parameters(names), lambda **values: {names[n]: value for n, value in values.items()}
    if attributes and not any(hasattr(torch.Tensor, attribute) for attribute in attributes):
        return _make_field_parameters(dict.fromkeys(attributes)), SimpleNamespace
    return None


def _list_constant_keys(name: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=found), slice=ast.Constant(value=str(key)), ctx=ast.Load()):
                if found == name:
                    yield key


def _list_read_attributes(name: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=found), attr=attribute, ctx=ast.Load()) if found == name:
                yield attribute


def _make_field_parameters(hints: Mapping[str, Any]) -> Parameters:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return {name: inspect.Parameter(name, kind) for name in hints}


Symbols = tuple[str, ...]
"""The axes of a tensor as their author names them: ``("B", "T", "H", "K")``."""

BATCH, TIME, HEADS, WIDTH = "batch", "time", "heads", "width"
_MEANINGS = (
    (BATCH, r"b|bs|bsz|batch(_?size)?|z|nseqs?"),
    (HEADS, r"h|h[qkv]|g|nh|n_?heads?\w*|num_heads|heads?|head_num"),
    (WIDTH, r"d|k|v|e|c|r|dim|d_?[kvqh]|d_?heads?|head_?dim|head_?size|hidden|channels?|features|dim_head"),
    (TIME, r"t|l|s|n|m|tq|tk|lq|lk|seq|seq_?len\w*|len|length|time|n_?ctx|tokens|seq_[qk]"),
)
_SIZE = r"[A-Za-z_]\w*|\d+"
_LIST = re.compile(rf"[\[(]\s*((?:{_SIZE})(?:\s*,\s*(?:{_SIZE}))*)\s*,?\s*[\])]")
_ENTRY = re.compile(
    r"^[ \t]*[`*]*([A-Za-z_]\w*(?:[`*]*\s*[,/]\s*[`*]*[A-Za-z_]\w*)*)[`*]*\s*(\([^()\n]*\))?\s*[:,]", re.M
)
_INLINE = re.compile(
    rf"(?<![\w.])([A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)(?:\s*:\s*|\s+)[\[(]\s*((?:{_SIZE})(?:\s*,\s*(?:{_SIZE}))*\s*,?)\s*[\])]"
)
_UNPACKED = re.compile(rf"^[ \t]*((?:{_SIZE})(?:\s*,\s*(?:{_SIZE}))+)\s*=\s*(\*?)(\w+)\.(?:shape|size\(\))(.*)$", re.M)
_ASSERTED = re.compile(rf"\b(\w+)\.shape\s*==\s*\(\s*((?:{_SIZE})(?:\s*,\s*(?:{_SIZE}))*)\s*,?\s*\)")
_COMPLAINT = re.compile(rf"\b(\w+)\b[`'\"]?\s+(?:must|should|to|has to|needs to)\b[^\[(]*{_LIST.pattern}")


def find_shapes(text: str) -> dict[str, Symbols]:
    """The shapes that a source text or an error message gives for names, where every axis has a known meaning."""
    found: dict[str, Symbols] = {}
    for name, symbols in find_shape_statements(text):
        known = all(find_axis_meaning(symbol, i, len(symbols)) for i, symbol in enumerate(symbols))
        if known and name not in found and not all(symbol.isdigit() for symbol in symbols):
            found[name] = symbols
    return found


def find_shape_statements(text: str) -> Iterator[tuple[str, Symbols]]:
    """Names with the axes that a text gives them, whatever these are called."""
    yield from _find_inline_shapes(text)
    yield from _find_described_shapes(text)
    for pattern in (_ASSERTED, _COMPLAINT):
        yield from ((match.group(1), _split_symbols(match.group(2))) for match in pattern.finditer(text))
    for match in _UNPACKED.finditer(text):
        symbols, starred, rest = _split_symbols(match.group(1)), match.group(2), match.group(4)
        further = rest.count(".shape[") + rest.count(".size(") if starred else 0
        yield match.group(3), symbols[: len(symbols) - further]


def _find_described_shapes(text: str) -> Iterator[tuple[str, Symbols]]:
    """``name (type): … shape [B, T, H]``, as docstrings have it, and ``name,  # (B, T, H)``."""
    entries = list(_ENTRY.finditer(text))
    ends = [*(entry.start() for entry in entries[1:]), len(text)]
    for entry, end in zip(entries, ends, strict=False):
        said = _LIST.search(text, entry.end(), min(end, entry.end() + 200))
        if said is None:
            continue
        symbols = _split_symbols(said.group(1))
        if len(symbols) > 1 or re.search(r"shape\W*$", text[entry.end() : said.start()]):
            yield from ((name, symbols) for name in re.findall(r"\w+", entry.group(1)))


def _find_inline_shapes(text: str) -> Iterator[tuple[str, Symbols]]:
    """``q (B, H, T, D); k, v: (B, M, D); sinks (H,)``, as short docstrings have it."""
    for match in _INLINE.finditer(text):
        if "," in match.group(2):
            yield from (
                (name, _split_symbols(match.group(2).rstrip(", "))) for name in re.findall(r"\w+", match.group(1))
            )


def _split_symbols(sizes: str) -> Symbols:
    return tuple(size.strip() for size in sizes.split(","))


def read_source_text(target: Any) -> str:
    """The text of a function, or of the forward of an ``autograd.Function``; empty where there is none."""
    function = target.forward if inspect.isclass(target) and hasattr(target, "forward") else target
    try:
        return inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError, ValueError):
        return ""


def find_layout(symbols: Symbols) -> str | None:
    """The layout that a query of such axes has; None where its axes are in no order that we know."""
    meanings = [find_axis_meaning(symbol, i, len(symbols)) for i, symbol in enumerate(symbols)]
    orders = {
        "bhtd": [BATCH, HEADS, TIME, WIDTH],
        "bthd": [BATCH, TIME, HEADS, WIDTH],
        "btd": [BATCH, TIME, WIDTH],
        "td": [TIME, WIDTH],
    }
    return next((layout for layout, order in orders.items() if meanings == order), None)


def compute_sizes(symbols: Symbols, shape: Shape) -> tuple[int, ...]:
    """The shape of a tensor with such axes."""
    sizes: Mapping[str, int] = {
        BATCH: shape.batch,
        HEADS: shape.heads,
        TIME: shape.keys,
        WIDTH: shape.dim,
    }
    named = [find_axis_meaning(symbol, i, len(symbols)) for i, symbol in enumerate(symbols)]
    return tuple(int(s) if s.isdigit() else sizes[m or WIDTH] for s, m in zip(symbols, named, strict=True))


def find_axis_meaning(symbol: str, index: int, rank: int) -> str | None:
    """What an axis is, by its name and, where letters serve twice, by its place: N is a batch first, a length later."""
    if symbol.isdigit():
        return WIDTH
    name = symbol.lower()
    if name == "n" and index == 0 and rank > 2:
        return BATCH
    if name == "m" and index == rank - 1 and rank > 2:
        return WIDTH
    return next((meaning for meaning, pattern in _MEANINGS if re.fullmatch(pattern, name)), None)


def is_asked_as_condition() -> bool:
    """Whether the code that now reads an attribute or an entry wants to know no more of it than whether it holds.

    Not where it is asked for with a default, by ``getattr``.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("theria_lint."):
        frame = frame.f_back
    instructions = (i for i in dis.get_instructions(frame.f_code) if i.opname != "COPY")
    reading = next((i for i in instructions if i.offset == frame.f_lasti), None)
    use = next(instructions, None)
    if reading is None or use is None or reading.opname not in ("LOAD_ATTR", "BINARY_SUBSCR"):
        return False
    jumps = use.opname.startswith(("POP_JUMP", "JUMP_IF")) and "NONE" not in use.opname
    return jumps or use.opname in ("UNARY_NOT", "TO_BOOL")
