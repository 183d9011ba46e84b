"""Read what a class's constructor takes, ``**kwargs`` followed through its source, and list candidate values."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from torch import nn

from theria_lint.worker.find_call.argument_values import CONSTRUCTOR_VALUES, FakeConfig, ValueMaker, find_values_by_name
from theria_lint.worker.find_call.introspection import (
    POSITIONAL,
    list_keyword_uses,
    make_keyword_parameter,
    parse_source,
    read_parameters,
)
from theria_lint.worker.find_call.trial_spec import (
    ENTRY,
    TrialSpec,
    compute_image_side,
    compute_part_length,
    compute_selected_count,
)

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


ValueTable = tuple[tuple[str, ValueMaker], ...]

_WIDEST = 4
"""A window of a sequence is no wider: a width that grew with the sequence would never fit what it asks for."""


def has_values_for_name(name: str, table: ValueTable) -> bool:
    """Whether a table has values for a name."""
    return any(re.search(pattern, name.lower().strip("_")) for pattern, _ in table)


class PassThroughLayer(nn.Module):
    """Stands for a layer that is given to a module: returns its first argument."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """What it is given."""
        return x


class FakeModuleConfig(FakeConfig):
    """Stands for a model's configuration: names its activation, and else answers as constructors are answered."""

    def __getattr__(self, name: str) -> Any:
        if name in self._spec.list_turned(ENTRY):
            return super().__getattr__(name)
        if name in ("hidden_act", "hidden_activation", "activation_function"):
            return "gelu"
        values = [] if name.startswith("_") else find_values_by_name(name, MODULE_VALUES, self._spec)
        return values[0] if values else super().__getattr__(name)

    __getitem__ = __getattr__


def _offer_fixed_values(*values: Any) -> ValueMaker:
    return lambda name, spec: list(values)


def _make_image_sides(name: str, spec: TrialSpec) -> list[Any]:
    """The height or width of an image, as a number or a pair."""
    return [compute_image_side(spec), (compute_image_side(spec), compute_image_side(spec))]


def _make_window_sizes(name: str, spec: TrialSpec) -> list[Any]:
    """Windows smaller than what they slide over: one that holds everything is never left by anything."""
    across = max(1, compute_image_side(spec) // 2)
    one = min(compute_part_length(spec), _WIDEST)
    return [
        one,
        (across, across),
        spec.shape.queries,
        across,
        compute_image_side(spec),
        (compute_image_side(spec), compute_image_side(spec)),
        (1, across, across),
    ]


def _make_token_counts(name: str, spec: TrialSpec) -> list[Any]:
    """How many tokens are selected, or stand for the others."""
    return [compute_selected_count(spec), spec.shape.queries]


MODULE_VALUES: ValueTable = (
    (r"drop", _offer_fixed_values(0.0)),
    (
        r"^(in|out|input|output|embed|node|edge)_?(feat(ure)?s?|channels|chans|planes)$|^(in)?planes$|feats?$",
        lambda n, s: [s.channels],
    ),
    (r"^c_\w+$|^d_?(ff|inner|hid|in|out|emb|qkv?|kv|v)$|(^|_)inner(_|$)", lambda n, s: [s.channels]),
    (r"rank$", lambda n, s: [s.shape.dim]),
    (r"patch", _offer_fixed_values(2, 1, (2, 2))),
    (
        r"fmap|feat(ure)?_?(map_?)?size|^[hw]_s$|^(h|w|height|width)$|^spa[ct]i\w*_?(dim|size|res\w*)?$",
        _make_image_sides,
    ),
    (r"resolution|(img|image|input|spatial)_size|grid", _make_image_sides),
    (r"window", _make_window_sizes),
    (r"block|chunk|bucket|tile", lambda n, s: [2, 4, 16, compute_part_length(s), s.shape.queries]),
    (r"halo|overlap", _offer_fixed_values(1, 2)),
    (r"^num_\w*tokens(_\w+)?$|^num_(selected|routed|heavy)|top_?k|capacity|num_keep", _make_token_counts),
    (
        r"slots|quer(y|ies)$|latents?$|inds?$|seeds?$|prototypes",
        lambda n, s: [compute_selected_count(s) + 1, s.shape.queries, s.shape.keys, compute_image_side(s)],
    ),
    (r"frames$", lambda n, s: [compute_image_side(s), s.shape.queries, 2]),
    (r"seg(ment)?_|segment", lambda n, s: [compute_part_length(s), s.shape.queries]),
    (r"temperature|^(temp|tau)$", _offer_fixed_values(1.0)),
    (r"iter(s|ations?)?$", _offer_fixed_values(3)),
    (r"^chans?$|_chans?$", lambda n, s: [s.channels]),
    (r"norm(_?(layer|fn|cls|class))?$", _offer_fixed_values(nn.LayerNorm, nn.Identity, False, None)),
    (
        r"act(ivation)?(_?(layer|fn|func|function))?$|nonlinearity",
        _offer_fixed_values(nn.GELU, nn.functional.gelu, "gelu"),
    ),
    (r"^(feed_?forward|ffn?|mlp|net|block|layer|module)$", lambda n, s: [PassThroughLayer(), s.base]),
    (r"^(fn|f|func|function|inner|to_q|to_kv?|proj)$", lambda n, s: [s.base, PassThroughLayer()]),
    (r"kernel(_?size)?$", _offer_fixed_values(3, 1)),
    (r"stride|dilation|(sr|reduction|compress\w*)_?(ratio|factor)?$", _offer_fixed_values(1, 2)),
    (r"padding", _offer_fixed_values(1, 0)),
    (r"(ratio|mult|factor|expansion)$", _offer_fixed_values(2, 1.0)),
    (r"alpha|slope|gamma|^beta$|init_val\w*$", _offer_fixed_values(0.2, 1)),
    (r"hiddens$|dims$", lambda n, s: [(s.channels, s.channels), s.channels]),
    (r"vocab|num_embeddings|buckets|max_(rel|dist)\w*", _offer_fixed_values(8)),
    (r"levels$", _offer_fixed_values(1, 2)),
    (r"scales$|points|samples|hashes|rounds", _offer_fixed_values(2, 1, 4)),
    (r"^max_(batch|bs)\w*", lambda n, s: [s.shape.batch]),
    (
        r"^(use|is|has|with|enable|add|do|allow|learn\w*|return|share\w*)_|flash|bidirectional|concat|^(ln|layer_?norm)$",
        _offer_fixed_values(False),
    ),
    (r"^(config|cfg|args|hparams|params|opts?)$", lambda n, s: [FakeModuleConfig(s)]),
    *CONSTRUCTOR_VALUES,
)
"""By what a parameter of a module's constructor is called: its candidate values."""


def find_annotation_values(hint: Any) -> ValueMaker | None:
    """The words of a ``Literal``, the members of an ``Enum``, or as many numbers as a tuple has; None for any other."""
    for part in _list_union_members(hint):
        if get_origin(part) is Literal:
            return _offer_listed_values(list(get_args(part)))
        if inspect.isclass(part) and issubclass(part, Enum):
            return _offer_listed_values(list(part))
        if get_origin(part) is tuple and len(entries := get_args(part)) > 1 and set(entries) <= {int, float}:
            return _offer_tuples(len(entries))
    return None


def find_layer_class(cls: Any, name: str, hint: Any) -> Any:
    """The class of the layer that a parameter is given: its annotation or, for any layer, the package's class so named.

    None where the parameter holds no layer, or one that its name does not tell.
    """
    for part in _list_union_members(hint):
        if inspect.isclass(part) and issubclass(part, nn.Module) and part is not cls:
            return part if part is not nn.Module else _find_class_by_name(cls, name)
    return None


def _find_class_by_name(cls: Any, name: str) -> Any:
    package = cls.__module__.partition(".")[0]
    wanted = name.replace("_", "").lower()
    for module in [m for key, m in list(sys.modules.items()) if key.partition(".")[0] == package]:
        for found in list(vars(module).values()):
            if inspect.isclass(found) and issubclass(found, nn.Module) and found.__name__.lower() == wanted:
                return found if found is not cls else None
    return None


def _list_union_members(hint: Any) -> Iterator[Any]:
    """An annotation, or the alternatives of a union."""
    yield hint
    if get_origin(hint) is not tuple:
        yield from get_args(hint)


def _offer_listed_values(values: list[Any]) -> ValueMaker:
    return lambda name, spec: list(values)


def _offer_tuples(count: int) -> ValueMaker:
    """The numbers that a name suggests, as tuples of a length."""

    def make(name: str, spec: TrialSpec) -> list[Any]:
        values = [v if isinstance(v, tuple) else (v,) * count for v in find_values_by_name(name, MODULE_VALUES, spec)]
        return [value for value in dict.fromkeys(values) if len(value) == count] or [(1,) * count]

    return make


@lru_cache(maxsize=64)
def find_compared_strings(cls: Any) -> Mapping[str, list[str]]:
    """The strings that each name, or an attribute of that name, is compared with in a class, in source order."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(parse_source(cls)):
        name = _read_identifier(node.left) if isinstance(node, ast.Compare) else None
        if name is not None:
            found.setdefault(name, []).extend(text for text in _list_string_constants(node) if text not in found[name])
    return {name: strings for name, strings in found.items() if strings}


def _read_identifier(node: ast.expr) -> str | None:
    return getattr(node, "id", None) or getattr(node, "attr", None)


def _list_string_constants(comparison: ast.AST) -> list[str]:
    constants = (node.value for node in ast.walk(comparison) if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, str)]
