"""Choose the arguments of a call, and of a constructor: which are q, k and v, and what the others are given."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from torch import nn

from theria_lint.static import attention_names
from theria_lint.worker.find_call.argument_values import (
    CALL_VALUES,
    CHUNK_NAMES,
    CONSTRUCTOR_VALUES,
    SHORT_BLOCK,
    FakeConfig,
    ValueMaker,
    find_values_by_name,
    list_candidates,
    may_be_differentiated,
    offer_values,
)
from theria_lint.worker.find_call.call_strategy import (
    ENTRY,
    TrialSpec,
    compute_image_side,
    compute_part_length,
    compute_selected_count,
    make_dropout,
)
from theria_lint.worker.find_call.signatures import (
    POSITIONAL,
    NoSuchChoiceError,
    parse_source,
    read_identifier,
)

QKV = ("q", "k", "v")

LARGE_DEFAULT = 16
"""A default size above this is not needed to see what a module's derivatives are worth."""


def list_free_parameters(parameters: Mapping[str, inspect.Parameter], fixed: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that need a value and are not q, k or v."""
    return tuple(
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        and name not in fixed
        and attention_names.get_role(name) is None
    )


def list_optional_parameters(parameters: Mapping[str, inspect.Parameter], fixed: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that have a default."""
    return tuple(
        name
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
        and name not in fixed
        and attention_names.get_role(name) is None
    )


def looks_like_tensor(parameter: inspect.Parameter) -> bool:
    """Whether an optional parameter may be a tensor that is learned or computed: by its annotation, or its name."""
    if parameter.default is not None or not may_be_differentiated(parameter.name):
        return False
    annotation = str(parameter.annotation).lower()
    return "tensor" in annotation if parameter.annotation is not inspect.Parameter.empty else True


def is_long_chunk(parameter: inspect.Parameter) -> bool:
    """Whether a parameter is a length of chunks or blocks whose default makes one chunk of a short sequence."""
    return (
        re.search(CHUNK_NAMES, parameter.name) is not None
        and type(parameter.default) is int
        and parameter.default > SHORT_BLOCK
    )


def read_enums(values: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Values by name, with members in the place of their names where a parameter's default is one of an ``Enum``."""
    found = dict(values)
    for name, value in values.items():
        default = parameters[name].default if name in parameters else None
        if isinstance(default, Enum) and isinstance(value, str):
            found[name] = type(default)[value]
    return found


def fix_arguments(
    fixed: Mapping[str, Any], spec: TrialSpec, parameters: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    """The values that are not chosen: those that are ``fixed``, and what the spec gives and turns."""
    return {**fixed, **spec.draw_given(), **read_enums(spec.list_turned(), parameters)}


def choose_arguments(
    parameters: Mapping[str, inspect.Parameter],
    spec: TrialSpec,
    table: tuple[tuple[str, ValueMaker], ...],
    choice: Mapping[str, int],
    fixed: Mapping[str, Any],
) -> dict[str, Any]:
    """Values for the parameters that need one: required, configured, attention functions, dropout.

    Raises:
        NoSuchChoiceError: where a parameter has no such candidate.
    """
    arguments: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in fixed:
            arguments[name] = fixed[name]
        elif parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        elif spec.masking and "causal" in name.lower() and type(parameter.default) in (bool, type):
            arguments[name] = True
        elif parameter.default is inspect.Parameter.empty:
            arguments[name] = _pick_value(list_candidates(parameter, spec, table), choice.get(name, 0))
        elif choice.get(name):
            arguments[name] = _pick_value(list_candidates(parameter, spec, table), choice[name] - 1)
        elif spec.small and table is CALL_VALUES and is_long_chunk(parameter):
            arguments[name] = SHORT_BLOCK
        elif (
            spec.small
            and table is CONSTRUCTOR_VALUES
            and type(parameter.default) is int
            and parameter.default > LARGE_DEFAULT
        ):
            arguments[name] = next(iter(find_values_by_name(name, table, spec)), parameter.default)
        elif "drop" in name.lower() and isinstance(parameter.default, float):
            arguments[name] = make_dropout(name, spec)[0]
        elif name.lower() in attention_names.ATTENTION_PARAMETERS and (
            parameter.default is None or callable(parameter.default)
        ):
            arguments[name] = spec.base
    return arguments


def _pick_value(values: list[Any], index: int) -> Any:
    if index >= len(values):
        raise NoSuchChoiceError
    return values[index]


def assign_roles(parameters: Mapping[str, inspect.Parameter]) -> dict[str, str]:
    """The parameters that hold q, k, v (or qkv, kv): by name, else the first three that need a value."""
    found: dict[str, str] = {}
    for name, parameter in parameters.items():
        role = attention_names.get_role(name)
        takes_many = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if role is not None and role not in found.values() and not takes_many:
            found[name] = role
    if {"q", "k", "v"} <= set(found.values()) or "qkv" in found.values() or {"q", "kv"} <= set(found.values()):
        return {name: role for name, role in found.items() if role in _select_used_roles(set(found.values()))}
    required = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and p.kind in POSITIONAL]
    return dict(zip(required, QKV, strict=False)) if len(required) >= len(QKV) else {}


def _select_used_roles(roles: set[str]) -> set[str]:
    if set(QKV) <= roles:
        return set(QKV)
    return {"qkv"} if "qkv" in roles else {"q", "kv"}


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
    (r"drop", make_dropout),
    (
        r"^(in|out|input|output|embed|node|edge)_?(feat(ure)?s?|channels|chans|planes)$|^(in)?planes$|feats?$",
        lambda n, s: [s.channels],
    ),
    (r"^c_\w+$|^d_?(ff|inner|hid|in|out|emb|qkv?|kv|v)$|(^|_)inner(_|$)", lambda n, s: [s.channels]),
    (r"rank$", lambda n, s: [s.shape.dim]),
    (r"patch_?dim", lambda n, s: [s.channels, 2]),
    (r"patch", offer_values(2, 1, (2, 2))),
    (
        r"fmap|feat(ure)?_?(map_?)?size|^[hw]_s$|^(h|w|height|width)$|^spa[ct]i\w*_?(dim|size|res\w*)?$",
        _make_image_sides,
    ),
    (r"^input_size$", lambda n, s: [*_make_image_sides(n, s), s.shape.queries, s.channels]),
    (r"resolution|(img|image|input|spatial)_size|grid", _make_image_sides),
    (r"^n$", lambda n, s: [s.shape.queries, compute_image_side(s)]),
    (r"window", _make_window_sizes),
    (r"block|chunk|bucket|tile", lambda n, s: [2, 4, 16, compute_part_length(s), s.shape.queries]),
    (r"halo|overlap", offer_values(1, 2)),
    (r"^num_\w*tokens(_\w+)?$|^num_(selected|routed|heavy)|top_?k|capacity|num_keep", _make_token_counts),
    (
        r"slots|quer(y|ies)$|latents?$|inds?$|seeds?$|prototypes",
        lambda n, s: [compute_selected_count(s) + 1, s.shape.queries, s.shape.keys, compute_image_side(s)],
    ),
    (r"frames$", lambda n, s: [compute_image_side(s), s.shape.queries, 2]),
    (r"seg(ment)?_|segment", lambda n, s: [compute_part_length(s), s.shape.queries]),
    (r"temperature|^(temp|tau)$", offer_values(1.0)),
    (r"iter(s|ations?)?$", offer_values(3)),
    (r"^chans?$|_chans?$", lambda n, s: [s.channels]),
    (r"norm(_?(layer|fn|cls|class))?$", offer_values(nn.LayerNorm, nn.Identity, False, None)),
    (
        r"act(ivation)?(_?(layer|fn|func|function))?$|nonlinearity",
        offer_values(nn.GELU, nn.functional.gelu, "gelu"),
    ),
    (r"^(feed_?forward|ffn?|mlp|net|block|layer|module)$", lambda n, s: [PassThroughLayer(), s.base]),
    (r"^(fn|f|func|function|inner|to_q|to_kv?|proj)$", lambda n, s: [s.base, PassThroughLayer()]),
    (r"kernel(_?size)?$", offer_values(3, 1)),
    (r"stride|dilation|(sr|reduction|compress\w*)_?(ratio|factor)?$", offer_values(1, 2)),
    (r"padding", offer_values(1, 0)),
    (r"(ratio|mult|factor|expansion)$", offer_values(2, 1.0)),
    (r"alpha|slope|gamma|^beta$|init_val\w*$", offer_values(0.2, 1)),
    (r"hiddens$|dims$", lambda n, s: [(s.channels, s.channels), s.channels]),
    (r"vocab|num_embeddings|buckets|max_(rel|dist)\w*", offer_values(8)),
    (r"levels$", offer_values(1, 2)),
    (r"class(es)?$", offer_values(3)),
    (r"scales$|points|samples|hashes|rounds", offer_values(2, 1, 4)),
    (r"^max_(batch|bs)\w*", lambda n, s: [s.shape.batch]),
    (
        r"^(use|is|has|with|enable|add|do|allow|learn\w*|return|share\w*)_|flash|bidirectional|concat|^(ln|layer_?norm)$",
        offer_values(False),
    ),
    (r"^(config|cfg|args|hparams|params|opts?)$", lambda n, s: [FakeModuleConfig(s)]),
    *CONSTRUCTOR_VALUES,
)
"""By what a parameter of a module's constructor is called: its candidate values."""


def find_annotation_values(hint: Any) -> ValueMaker | None:
    """The words of a ``Literal``, the members of an ``Enum``, or as many numbers as a tuple has; None for any other."""
    for part in _list_union_members(hint):
        if get_origin(part) is Literal:
            return offer_values(*get_args(part))
        if inspect.isclass(part) and issubclass(part, Enum):
            return offer_values(*part)
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


def offer_sequences(count: int) -> ValueMaker:
    """So many of the numbers that a name suggests, as tuples and as lists; then so many twos."""

    def make(name: str, spec: TrialSpec) -> list[Any]:
        values = [*find_values_by_name(name, MODULE_VALUES, spec), 2]
        numbers = dict.fromkeys(v[0] if isinstance(v, tuple) else v for v in values)
        rows = [(number,) * count for number in numbers if type(number) in (int, float)]
        return [*rows, *map(list, rows)]

    return make


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
        name = read_identifier(node.left) if isinstance(node, ast.Compare) else None
        if name is not None:
            found.setdefault(name, []).extend(text for text in _list_string_constants(node) if text not in found[name])
    return {name: strings for name, strings in found.items() if strings}


def _list_string_constants(comparison: ast.AST) -> list[str]:
    constants = (node.value for node in ast.walk(comparison) if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, str)]
