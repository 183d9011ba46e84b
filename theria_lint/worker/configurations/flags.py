"""List the flags of a target that are worth turning: those on which its code branches, and which change what it does.

A flag stands at a place: ``name`` is a parameter of the call, ``__init__:name`` one of the constructor, ``config.name``
an entry of a configuration that the constructor is given, ``self.name`` an attribute of what was built, ``global:name``
a constant of the module.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from torch import nn

from theria_lint.confirm.protocol import Flag
from theria_lint.model import TargetKind
from theria_lint.worker.configurations.code_questions import HOLDS, CodeQuestions, ConstantComparison
from theria_lint.worker.configurations.unreached_code import runs_other_code
from theria_lint.worker.find_call.argument_values import (
    CALL_VALUES,
    CHUNK_NAMES,
    SHORT_BLOCK,
    FakeConfig,
    find_values_by_name,
)
from theria_lint.worker.find_call.call_strategy import ATTRIBUTE, CONSTRUCTOR_PREFIX, ENTRY, GLOBAL, TrialSpec
from theria_lint.worker.find_call.choose_arguments import MODULE_VALUES
from theria_lint.worker.find_call.computation import are_alike, describe_computation
from theria_lint.worker.find_call.run_trial import WorkingCall
from theria_lint.worker.find_call.signatures import (
    Parameters,
    parse_source,
    read_call_parameters,
    read_constructor_parameters,
    read_parameters,
    read_type_hints,
)

MAX_FLAGS = 8
"""How many are turned: each is measured like a target of its own."""

MAX_VALUES = 3
"""How many values one flag is turned to: of the strings that select a path, say."""

GUESSED_NUMBERS = {int: 2, float: 0.5}
"""What an option is turned to that is None by default and a number otherwise, of which its name says no more."""

_COUNTS = re.compile(r"^(n|num|max|min)_|_(size|len|length|dim|rank)$")
"""What the names of numbers look like."""

_LAYER_INDEX = re.compile(r"^(layer|block)_?(idx|id|index|num(ber)?|i)$")

_LAYERS = 6
"""Among how many layers one of another kind is looked for."""

_TRIED = 32
"""Of how many it is found out whether they change anything."""


@contextmanager
def turn_globals(target: Any, turned: Mapping[str, Any]) -> Iterator[None]:
    """Give constants of the target's module other values while it lasts."""
    space = vars(sys.modules.get(getattr(target, "__module__", None) or "", object()))
    wanted = {place.removeprefix(GLOBAL): v for place, v in turned.items() if place.startswith(GLOBAL)}
    before = {name: space[name] for name in wanted if name in space}
    space.update({name: wanted[name] for name in before})
    try:
        yield
    finally:
        space.update(before)


def list_flags(
    target: Any, kind: TargetKind, working_call: WorkingCall, fixed: Mapping[str, Any], is_late: Callable[[], bool]
) -> list[Flag]:
    """The flags with which a target computes something else than without, or does not run as it was called.

    Not those that the user has configured (``fixed``); those that the code asks about come first.
    """
    if kind is TargetKind.WRAPPER or working_call.strategy.watched or working_call.spec.directional:
        return []
    questions = CodeQuestions(_parse_home(target))
    found = [flag for flag in _list_candidates(target, kind, working_call, questions) if _read_name(flag) not in fixed]
    guesses = [flag for flag in _list_guesses(target, kind, working_call, questions) if _read_name(flag) not in fixed]
    kept: dict[Flag, bool] = {}
    plain = describe_computation(working_call, working_call.spec) if found or guesses else None
    for flag in [*found[:_TRIED], *guesses]:
        if len(kept) == MAX_FLAGS or is_late():
            break
        guessed = flag in guesses
        if guessed and any(runs and other.place == flag.place for other, runs in kept.items()):
            continue
        turned = {flag.place: ast.literal_eval(flag.literal)}
        spec = replace(working_call.spec, turned=turned)
        with turn_globals(target, turned):
            described = describe_computation(working_call, spec)
        differs = None if described is None or plain is None else not are_alike(described, plain)
        if guessed and differs and described and plain and described[0] == plain[0]:
            differs = runs_other_code(working_call, spec)  # a number in the place of another tells nothing
        if differs or (differs is None and not guessed):  # a guess that does not run was a bad one
            kept[flag] = described is not None
    return list(kept)


def _read_name(flag: Flag) -> str:
    return re.split(r"[:.]", flag.place)[-1]


def _parse_home(target: Any) -> ast.AST:
    """The code around a target: its module, and the classes and functions of other modules that it is made from."""
    bodies: list[ast.AST] = [parse_source(sys.modules.get(getattr(target, "__module__", None) or ""))]
    for owner in target.__mro__ if inspect.isclass(target) else ():
        if owner.__module__ != target.__module__ and not _is_of_library(owner):
            bodies.append(parse_source(owner))
    if not any(ast.iter_child_nodes(body) for body in bodies):
        bodies.append(parse_source(target))
    return ast.Module([statement for body in bodies for statement in getattr(body, "body", [])], [])


def _is_of_library(owner: Any) -> bool:
    return owner.__module__.partition(".")[0] in ("torch", "builtins", "abc", "typing")


def _list_candidates(target: Any, kind: TargetKind, working_call: WorkingCall, questions: CodeQuestions) -> list[Flag]:
    """The flags that a target may have: what the code asks about first, then other booleans."""
    found = [
        (questions.is_asked(name), place, value, shown)
        for place, name, values in _list_places(target, kind, working_call, questions)
        for value, shown in values
    ]
    found.sort(key=lambda item: not item[0])
    flags = [Flag(place, repr(value), f"{place.rpartition(':')[2]}={shown}") for _, place, value, shown in found]
    return [flag for flag in dict.fromkeys(flags) if len(flag.label) < 100 and flag.label.isprintable()]


def _list_guesses(target: Any, kind: TargetKind, working_call: WorkingCall, questions: CodeQuestions) -> Iterator[Flag]:
    """Options that are None by default and numbers otherwise, with a number of which their names say nothing.

    And the number of a layer, which a constructor has to be given.
    """
    built = inspect.isclass(target) and kind is not TargetKind.AUTOGRAD_FUNCTION
    signatures: list[tuple[str, Parameters]] = [("", _read_call_parameters(target, kind))]
    signatures += [(CONSTRUCTOR_PREFIX, read_constructor_parameters(target))] if built else []
    for prefix, parameters in signatures:
        for name, parameter in parameters.items():
            if prefix and parameter.default is inspect.Parameter.empty and _LAYER_INDEX.search(name):
                yield from _list_layer_indices(prefix + name, name, working_call.spec)
            if parameter.default is not None or working_call.strategy.choice.get(prefix + name):
                continue
            number = _guess_number(parameter, questions, annotated=not prefix)
            if number is not None and questions.may_be_none(name):
                yield Flag(prefix + name, repr(number), f"{name}={number}")


def _list_layer_indices(place: str, name: str, spec: TrialSpec) -> Iterator[Flag]:
    """The numbers of a few layers beside the one that is given: every so many may be of another kind."""
    given = find_values_by_name(name, MODULE_VALUES, spec)[:1]
    yield from (Flag(place, repr(number), f"{name}={number}") for number in range(_LAYERS) if number not in given)


def _guess_number(parameter: inspect.Parameter, questions: CodeQuestions, *, annotated: bool) -> float | None:
    """A number for what is annotated as one or, unless it has to be ``annotated``, what code computes with."""
    if parameter.annotation is inspect.Parameter.empty:
        counts = _COUNTS.search(parameter.name) is not None or questions.is_number(parameter.name)
        return GUESSED_NUMBERS[int] if counts and not annotated else None
    words = re.findall(r"\w+", inspect.formatannotation(parameter.annotation))
    return next((number for kind, number in GUESSED_NUMBERS.items() if kind.__name__ in words), None)


Values = list[tuple[Any, str]]
"""Values of a flag, each as a literal and as people write it."""


def _list_places(
    target: Any, kind: TargetKind, working_call: WorkingCall, questions: CodeQuestions
) -> Iterator[tuple[str, str, Values]]:
    """Every place where a flag may stand, with its name and other values than it has."""
    spec, choice = working_call.spec, working_call.strategy.choice
    call = _read_call_parameters(target, kind)
    for name, parameter in call.items():
        if not choice.get(name):
            yield name, name, _list_other_values(parameter, parameter.default, questions, spec, CALL_VALUES)
    if not inspect.isclass(target) or kind is TargetKind.AUTOGRAD_FUNCTION:
        yield from _list_global_places(target, questions)
        return
    owner: Any = target
    build = read_constructor_parameters(owner)
    for name, parameter in build.items():
        if not choice.get(CONSTRUCTOR_PREFIX + name):
            values = _list_other_values(parameter, parameter.default, questions, spec, MODULE_VALUES)
            yield CONSTRUCTOR_PREFIX + name, name, values
    built = working_call.make_call().module
    entries = list(_list_entry_places(target, build, questions, spec))
    yield from entries
    yield from _list_attribute_places(built, [*build, *(name for _, name, _ in entries)], questions)
    yield from _list_global_places(target, questions)


def _read_call_parameters(target: Any, kind: TargetKind) -> dict[str, inspect.Parameter]:
    if kind is TargetKind.MODULE:
        return dict(list(read_call_parameters(target.forward).items())[1:])
    if kind is TargetKind.AUTOGRAD_FUNCTION:
        return {}
    return dict(
        list(read_parameters(target.__call__).items())[1:]
        if inspect.isclass(target)
        else read_call_parameters(target).items()
    )


def _list_entry_places(
    target: Any, build: Mapping[str, inspect.Parameter], questions: CodeQuestions, spec: TrialSpec
) -> Iterator[tuple[str, str, Values]]:
    """The entries that code reads of a configuration."""
    for name, parameter in build.items():
        if parameter.default is not inspect.Parameter.empty:
            continue
        hint = read_type_hints(target.__init__).get(name)
        for entry, default in _list_entries(name, hint, questions, spec):
            values = _list_values_beside(default, entry, questions, spec, MODULE_VALUES)
            yield ENTRY + entry, entry, values


def _list_entries(name: str, hint: Any, questions: CodeQuestions, spec: TrialSpec) -> Iterator[tuple[str, Any]]:
    """What is read of a configuration, with what it says by default: a real one, or one that answers for any entry."""
    offered = find_values_by_name(name, MODULE_VALUES, spec)
    fake = next((value for value in offered if isinstance(value, FakeConfig)), None)
    own = _read_own_defaults(hint)
    if fake is None and own is None:
        return
    for entry in _list_attributes_of(name, questions.tree):
        if own is not None and entry in own:
            yield entry, own[entry]
        elif fake is not None:
            with suppress(AttributeError):
                yield entry, getattr(fake, entry)


def _read_own_defaults(hint: Any) -> dict[str, Any] | None:
    """The defaults of a class of configurations, None for what is none."""
    if not inspect.isclass(hint) or issubclass(hint, nn.Module) or "config" not in hint.__name__.lower():
        return None
    owner: Any = hint
    return {name: p.default for name, p in read_constructor_parameters(owner).items() if p.default is not p.empty}


def _list_attributes_of(name: str, tree: ast.AST) -> list[str]:
    """What is read of what has a name: ``config.x``, ``config["x"]``, ``config.get("x")``, ``getattr(config, "x")``."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=owner, attr=entry, ctx=ast.Load()):
                pass
            case ast.Subscript(value=owner, slice=ast.Constant(value=str(entry))):
                pass
            case ast.Call(func=ast.Name(id="getattr"), args=[owner, ast.Constant(value=str(entry)), *_]):
                pass
            case ast.Call(func=ast.Attribute(value=owner, attr="get"), args=[ast.Constant(value=str(entry)), *_]):
                pass
            case _:
                continue
        if name in (getattr(owner, "id", None), getattr(owner, "attr", None)):
            found.append(entry)
    return list(dict.fromkeys(found))


def _list_attribute_places(
    built: Any, given: Iterable[str], questions: CodeQuestions
) -> Iterator[tuple[str, str, Values]]:
    """Attributes that do not come from what was ``given``: of the class, or set by its constructor."""
    if built is None:
        return
    known = {alias for name in given for alias in questions.follow(name)} | set(vars(nn.Module())) | {"training"}
    owners = [vars(owner) for owner in type(built).__mro__ if not _is_of_library(owner)]
    held = {name: value for space in (*reversed(owners), vars(built)) for name, value in space.items()}
    for name, value in held.items():
        if name not in known | questions.changing and not name.startswith("__") and questions.is_asked(name):
            yield ATTRIBUTE + name, name, _list_values_beside(value, name, questions, None, ())


def _list_global_places(target: Any, questions: CodeQuestions) -> Iterator[tuple[str, str, Values]]:
    """Constants of the module that are bound once, at its top."""
    space = vars(sys.modules.get(getattr(target, "__module__", None) or "", object()))
    bound = [
        node.targets[0].id
        for node in getattr(questions.tree, "body", [])
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Name)
    ]
    for name in bound:
        if bound.count(name) == 1 and name in space and name not in questions.changing and questions.is_asked(name):
            yield GLOBAL + name, name, _list_values_beside(space[name], name, questions, None, ())


def _list_other_values(
    parameter: inspect.Parameter, default: Any, questions: CodeQuestions, spec: TrialSpec, table: Any
) -> Values:
    """What a parameter can be given beside its default, or beside what it was given for want of one."""
    name = parameter.name
    if parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
        return []
    if "causal" in name.lower() and not default:  # measured with every target
        return []
    if default is inspect.Parameter.empty:
        given = find_values_by_name(name, table, spec)
        default = given[0] if given else inspect.Parameter.empty
        if type(default) not in (bool, str):
            return []
    words = _list_words(parameter.annotation)
    if words:
        return [(word, repr(word)) for word in words if word != default][:MAX_VALUES]
    if default is None and "bool" in str(parameter.annotation).lower():
        return [(True, "True")]
    return _list_values_beside(default, name, questions, spec, table)


def _list_words(annotation: Any) -> list[str]:
    """The words of a ``Literal``, alone or in a union."""
    parts = [annotation, *get_args(annotation)]
    return [w for part in parts if get_origin(part) is Literal for w in get_args(part) if isinstance(w, str)]


def _list_values_beside(
    default: Any, name: str, questions: CodeQuestions, spec: TrialSpec | None, table: Any
) -> Values:
    """The values beside a default that make code which asks about it do something else."""
    comparisons = questions.list_comparisons(name)
    found: list[Any] = []
    match default:
        case bool():
            found = [not default]
        case Enum():
            return [(other.name, str(other)) for other in type(default) if other is not default][:MAX_VALUES]
        case str():
            found = [c.constant for c in comparisons if isinstance(c.constant, str)]
        case int() | float():
            found = list(_list_other_numbers(default, name, comparisons, questions, spec, table))
        case None:
            found = [c.constant for c in comparisons if isinstance(c.constant, str) and c.operator != HOLDS]
            if not found and questions.may_be_none(name) and spec is not None:
                found = _list_offered_numbers(name, spec, table)[:1]
    return [(value, repr(value)) for value in dict.fromkeys(found) if value != default][:MAX_VALUES]


def _list_other_numbers(
    default: float,
    name: str,
    comparisons: Iterable[ConstantComparison],
    questions: CodeQuestions,
    spec: TrialSpec | None,
    table: Any,
) -> Iterator[float]:
    """A number on the other side of each comparison; zero, or another than zero, where the code asks whether it is."""
    step = 1 if type(default) is int else 0.5
    offered = [value for value in _list_offered_numbers(name, spec, table) if type(value) is type(default)]
    for comparison in comparisons:
        constant = comparison.constant
        if isinstance(constant, str | bool):
            continue
        sides = [*offered, constant, constant + step, constant - step]
        here = _holds(comparison, default)
        yield from [type(default)(side) for side in sides if side >= 0 and _holds(comparison, side) is not here][:1]
    if questions.is_tested(name):
        yield type(default)(0 if default else [*offered, step][0])


def _list_offered_numbers(name: str, spec: TrialSpec | None, table: Any) -> list[Any]:
    """The numbers but zero that a name suggests: of lengths, one of which a short sequence has several."""
    if re.search(CHUNK_NAMES, name.lower()):
        return [SHORT_BLOCK]
    if "window" in name.lower():
        return [SHORT_BLOCK // 2]
    values = find_values_by_name(name, table, spec) if spec is not None else []
    return [value for value in values if type(value) in (bool, int, float) and value]


def _holds(comparison: ConstantComparison, value: float) -> bool:
    constant: Any = comparison.constant
    known: dict[str, bool] = {
        "Eq": value == constant,
        "NotEq": value != constant,
        "Gt": value > constant,
        "GtE": value >= constant,
        "Lt": value < constant,
        "LtE": value <= constant,
        "In": value == constant,
        "NotIn": value != constant,
    }
    return known.get(comparison.operator, False)
