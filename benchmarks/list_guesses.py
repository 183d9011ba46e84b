"""What the linter guesses by, each with a name and a way to take it away: `guess_counts.py` says what for.

A guess is a row of a table of values by name, a layout, a size, or a function or pattern of ``find_call`` that reads
something off a text, a name or a complaint. Nothing in the linter knows of being counted: what is taken away is
replaced in the modules that know it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from theria.probes.layouts import PACKED, SHARED
from theria_lint.static import attention_names
from theria_lint.worker.find_call import (
    argument_values,
    call_strategy,
    choose_arguments,
    hill_climb,
    module_calls,
    module_inputs,
    run_trial,
    search,
    shape_inference,
    signatures,
    strategies,
)
from theria_lint.worker.find_call.signatures import NoSuchChoiceError

NEVER = re.compile(r"(?!)")
GENTLE = "hill_climb: gentle numbers"

TABLES = {
    "call": argument_values.CALL_VALUES,
    "constructor": argument_values.CONSTRUCTOR_VALUES,
    "module": choose_arguments.MODULE_VALUES,
    "forward": module_inputs.FORWARD_VALUES,
}
ROWS = {id(row): f"{table}: {row[0]}" for table, rows in reversed(TABLES.items()) for row in rows}
"""The name of each row, by its identity: that of the table in which it stands first."""


@dataclass(frozen=True)
class Guess:
    """What can be taken away. ``watch`` has it tell when it takes part, ``remove`` takes it away for good.

    ``early``: it takes part while ways are looked for, not only when the call is made.
    """

    name: str
    remove: Callable[[], None]
    watch: Callable[[Callable[[], None]], None] = lambda tell: None
    early: bool = False


def replace_everywhere(old: Any, new: Any) -> None:
    """Have every module of the worker that knows one object know another in its place."""
    for module in [module for name, module in list(sys.modules.items()) if name.startswith("theria_lint.worker")]:
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)


def make_row_guess(row: tuple[str, Any]) -> Guess:
    """A row of the tables: without it the next that fits the name counts, if there is one."""

    def remove() -> None:
        for table in TABLES.values():
            replace_everywhere(table, tuple(other for other in table if other is not row))

    return Guess(ROWS[id(row)], remove)


def watch_rows(tell: Callable[[str, bool], None]) -> None:
    """Have lookups in the tables tell which row they came upon, and whether it was only asked if there is one."""

    def look(name: str, table: Any, *, early: bool) -> None:
        name = name.lower().strip("_")
        row = next((row for row in table if re.search(row[0], name)), None)
        if id(row) in ROWS:
            tell(ROWS[id(row)], early)

    find, has = argument_values.find_values_by_name, choose_arguments.has_values_for_name
    known = argument_values.is_known_by_name

    def find_values(name: str, table: Any, spec: Any) -> Any:
        look(name, table, early=False)
        return find(name, table, spec)

    def has_values(name: str, table: Any) -> bool:
        look(name, table, early=True)
        return has(name, table)

    def is_known(name: str) -> bool:
        look(name, argument_values.CALL_VALUES, early=True)
        return known(name)

    for old, new in ((find, find_values), (has, has_values), (known, is_known)):
        replace_everywhere(old, new)


def make_guess(owner: Any, name: str, without: Any, *, early: bool = False, here: bool = False) -> Guess:
    """A function, which takes part where it gives anything; ``without`` it there is this, or what this gives instead.

    ``here``: only where its owner uses it.
    """
    function = getattr(owner, name)

    def put(other: Any) -> None:
        if inspect.isclass(owner) or here:
            setattr(owner, name, other)
        else:
            replace_everywhere(function, other)

    def watch(tell: Callable[[], None]) -> None:
        def watched(*args: Any, **kwargs: Any) -> Any:
            found = function(*args, **kwargs)
            found = list(found) if inspect.isgenerator(found) else found
            if callable(without) or found:
                tell()
            return iter(found) if inspect.isgeneratorfunction(function) else found

        put(watched)

    instead = without if callable(without) else lambda *args, **kwargs: without
    place = owner.__name__.rpartition(".")[2]
    return Guess(f"{place}.{name}", partial(put, instead), watch, early)


class WatchedPattern:
    """A pattern that tells when it matches."""

    def __init__(self, pattern: re.Pattern[str], tell: Callable[[], None]) -> None:
        self.pattern, self._pattern, self._tell = pattern.pattern, pattern, tell

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._pattern, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            found = method(*args, **kwargs)
            found = list(found) if name == "finditer" else found
            if found and name != "sub":
                self._tell()
            return found

        return call


def make_pattern_guess(owner: ModuleType, name: str, *, early: bool = False) -> Guess:
    """A pattern for names or texts."""
    pattern = getattr(owner, name)
    place = owner.__name__.rpartition(".")[2]
    return Guess(
        f"{place}.{name}",
        partial(replace_everywhere, pattern, NEVER),
        lambda tell: replace_everywhere(pattern, WatchedPattern(pattern, tell)),
        early,
    )


def make_equal_guess(number: int, pattern: re.Pattern[str]) -> Guess:
    """A complaint that two sizes differ."""

    def put(other: Any) -> None:
        patterns = list(shape_inference._EQUAL)
        patterns[number] = other
        shape_inference._EQUAL = tuple(patterns)

    name = f"shape_inference._EQUAL: {pattern.pattern}"
    return Guess(name, lambda: put(NEVER), lambda tell: put(WatchedPattern(pattern, tell)), early=True)


class WatchedNames(frozenset[str]):
    """Names that tell when one of them is met."""

    tell: Callable[[], None]

    def __contains__(self, name: object) -> bool:
        found = super().__contains__(name)
        if found:
            self.tell()
        return found


def make_names_guess(name: str) -> Guess:
    """Names of parameters that take an attention function."""

    def watch(tell: Callable[[], None]) -> None:
        names = WatchedNames(getattr(attention_names, name))
        names.tell = tell
        setattr(attention_names, name, names)

    return Guess(f"attention_names.{name}", partial(setattr, attention_names, name, frozenset()), watch)


def name_layout(layout: str) -> str:
    """What a layout is called in the table."""
    return f"layout: {layout}"


def name_size(shape: Any) -> str:
    """What a size is called in the table."""
    return f"size: {shape}"


def make_layout_guess(layout: str) -> Guess:
    """A layout of the inputs."""

    def remove() -> None:
        group = search.group_layouts

        def group_layouts(*args: Any) -> list[list[str]]:
            groups = [[name for name in names if name != layout] for names in group(*args)]
            return [names for names in groups if names]

        search.group_layouts = group_layouts

    return Guess(name_layout(layout), remove)


def make_size_guess(number: int) -> Guess:
    """A size behind the first."""
    shape = call_strategy.SIZES[number]

    def remove() -> None:
        for sizes in (call_strategy.SIZES, call_strategy.KERNEL_SIZES):
            replace_everywhere(sizes, tuple(size for size in sizes if size != shape))

    return Guess(name_size(shape), remove)


def refuse(*args: Any, **kwargs: Any) -> Any:
    """Do not take part in the search."""
    raise NoSuchChoiceError


def list_guesses() -> Iterator[Guess]:
    """All of them."""
    yield from (make_row_guess(row) for row in {id(r): r for rows in TABLES.values() for r in rows}.values())
    yield from _list_ways()
    yield from _list_choices()
    yield from _list_readings()
    yield from map(make_layout_guess, dict.fromkeys((*module_inputs.FEATURE_AXES, *FUNCTION_LAYOUTS)))
    yield from map(make_size_guess, range(1, len(call_strategy.SIZES)))


FUNCTION_LAYOUTS = ("bhtd", "bthd", "btd", "td", *PACKED, *SHARED)


def _list_ways() -> Iterator[Guess]:
    """Ways to call a target, and to go on where none works."""
    builders = [name for name in vars(module_inputs) if name.startswith("build_")]
    yield from (make_guess(module_inputs, name, refuse) for name in builders)
    for name in ("call_with_small_defaults", "call_with_token_ids"):
        yield make_guess(module_calls._ModuleTarget, name, refuse)
    for name in ("make_shaped_strategy", "make_object_strategy", "make_wrapped_call"):
        yield make_guess(strategies, name, refuse, early=True)
    yield make_guess(search, "find_callers", (), early=True, here=True)
    yield make_guess(hill_climb, "hill_climb", None, early=True)
    yield make_guess(hill_climb, "_list_asked_lengths", (), early=True)
    for name in ("is_about_dtype", "is_learned"):
        yield make_guess(hill_climb, name, False, early=True, here=True)
    yield Guess(GENTLE, partial(setattr, hill_climb, "INVALID_OUTPUT_STAGE", -1))
    yield make_guess(run_trial, "is_in_place_on_leaf", False, early=True, here=True)


def _list_choices() -> Iterator[Guess]:
    """What arguments are chosen by beside the tables."""
    yield make_guess(strategies, "_find_further_inputs", {})
    yield make_guess(strategies, "_fill_varlen_arguments", {})
    yield make_guess(argument_values, "_list_values_by_annotation", ())
    yield make_guess(argument_values, "_list_fallback_values", lambda name, spec: [None])
    yield make_guess(choose_arguments, "is_long_chunk", False)
    for name, without in (("find_annotation_values", None), ("find_layer_class", None), ("find_compared_strings", {})):
        yield make_guess(choose_arguments, name, without, early=True)
    yield make_guess(choose_arguments, "_find_class_by_name", None, early=True)
    one = argument_values.offer_values
    yield make_guess(choose_arguments, "_offer_tuples", lambda count: one((1,) * count), early=True)
    fake = module_calls.FakeModuleConfig
    yield make_guess(module_calls, "_offer_configurations", lambda owner: lambda n, spec: [fake(spec)], early=True)
    yield make_guess(module_calls, "_offer_layers", lambda owner: one(module_calls.PassThroughLayer()), early=True)
    yield make_guess(module_calls, "with_default_heads", lambda parameters, spec: spec)
    yield make_guess(module_calls, "choose_small_defaults", {})
    build = module_calls.call_without_exit
    yield make_guess(
        module_calls, "_build_with_any_keyword", lambda cls, arguments, *_: build(partial(cls, **arguments))
    )
    for name in ("_is_context", "_is_scores", "_is_added"):
        yield make_guess(module_inputs, name, False)
    patterns = [name for name, value in vars(module_inputs).items() if isinstance(value, re.Pattern)]
    yield from (make_pattern_guess(module_inputs, name) for name in patterns)
    yield from map(make_names_guess, ("ATTENTION_PARAMETERS", "FUNCTION_PARAMETERS"))


def _list_readings() -> Iterator[Guess]:
    """What is read off signatures, texts and complaints."""
    yield make_guess(signatures, "list_keyword_uses", (), early=True)
    yield make_guess(signatures._ConstructorSource, "_read_forwarded_keywords", {}, early=True)
    yield make_guess(signatures, "_read_used_fields", None, early=True)
    for name in ("_find_inline_shapes", "_find_described_shapes"):
        yield make_guess(signatures, name, (), early=True)
    yield make_pattern_guess(signatures, "_UNPACKED", early=True)
    yield make_guess(call_strategy.TrialSpec, "find_written_shape", None)
    yield make_guess(search, "find_layout_in_text", None, early=True)
    yield make_pattern_guess(search, "_TIME_FIRST", early=True)
    yield make_guess(module_inputs, "_find_described_shape", None)
    for name in ("_find_unpacked_axes", "_find_einsum_axes"):
        yield make_guess(shape_inference, name, (), early=True)
    for name in [name for name, value in vars(shape_inference).items() if isinstance(value, re.Pattern)]:
        yield make_pattern_guess(shape_inference, name, early=True)
    yield from (make_equal_guess(number, pattern) for number, pattern in enumerate(shape_inference._EQUAL))


GUESSES = {guess.name: guess for guess in list_guesses()}
