"""Find trial specs that execute code which no other does: other precisions, sizes that the code asks about, points."""

from __future__ import annotations

import ast
import dis
import inspect
import os
import re
import sys
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from types import CodeType
from typing import Any

import torch

from theria.probes.layouts import Shape
from theria_lint.model import Configuration, label_configuration
from theria_lint.worker.clock import read_clock
from theria_lint.worker.configurations.compared_numbers import list_input_scales
from theria_lint.worker.configurations.counters import list_counts
from theria_lint.worker.find_call.argument_values import is_learned, may_be_learned
from theria_lint.worker.find_call.call_strategy import ATTRIBUTE, TrialSpec
from theria_lint.worker.find_call.computation import describe_computation, reads_numbers
from theria_lint.worker.find_call.run_trial import CallSearch, CannotCallError, WorkingCall, compute_first_gradients
from theria_lint.worker.find_call.signatures import parse_source, read_identifier
from theria_lint.worker.find_call.tensor_forms import TensorForm
from theria_lint.worker.find_call.unset_tensors import Code, Condition, group_names, list_forms, read_conditions
from theria_lint.worker.library_messages import find_unequal_sizes
from theria_lint.worker.trace import SpanRecorder

_BUDGET = 3.0
"""Seconds of processor time after which no further spec is tried."""

_MOST = 4
"""How many specs are worth it: each is measured like another configuration."""

_POINTS = 16
"""At how many points code is looked for that asks about the numbers it is given."""

_RESIZED = 4
"""In how many sizes a form of an argument is tried."""

_PATIENCE = 8
"""After how many complaints in a row that are the same no other form is tried."""

_INSTALLED = frozenset(("site-packages", "dist-packages"))
"""The names of the folders that packages are installed in."""

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_SPEAKS_OF_DTYPES = re.compile(r"dtype|float(16|32|64)|half|double|\bamp\b|is_autocast|itemsize|finfo")

_SPEAKS_OF_CHANCE = re.compile(r"\brandom\b")
"""Of numbers that are drawn outside of PyTorch."""

_LARGEST = {"batch": 16, "heads": 16, "dim": 128, "length": 1024}
"""Sizes up to which an axis is made as long as the code asks about."""

Places = set[tuple[CodeType, int]]
Lines = set[tuple[str, int]]
"""By file and number."""


def keep_specs_by_code(
    working_call: WorkingCall, specs: Mapping[str, TrialSpec], always: Collection[str]
) -> dict[str, TrialSpec]:
    """Those of the specs, by their names, that execute what none before does or do not run, and ``always`` some."""
    tracer = _Tracer(working_call, _list_package_files(working_call.strategy.home))
    return {name: spec for name, spec in specs.items() if tracer.add(spec) is not False or name in always}


def runs_other_code(working_call: WorkingCall, spec: TrialSpec) -> bool:
    """Whether a spec executes something that computes, in the package of the target, which the working call does not.

    To take one number in the place of another (``n if n is not None else self.n``) computes nothing.
    """
    tracer = _Tracer(working_call, _list_package_files(working_call.strategy.home))
    tracer.add(working_call.spec)
    before = set(tracer.reached)
    tracer.add(spec)
    executed: dict[CodeType, set[int]] = {}
    for code, index in tracer.reached - before:
        executed.setdefault(code, set()).add(index)
    return any(
        instruction.opname.startswith(_COMPUTING) and instruction.offset // 2 in indices
        for code, indices in executed.items()
        for instruction in dis.get_instructions(code)
    )


def _list_package_files(home: str) -> list[str]:
    """The files of the package that a module belongs to, and of the folder that it lies in, as far as imported."""
    package, folder = home.partition(".")[0], _find_folder(home)
    modules = [
        (name.partition(".")[0], getattr(module, "__file__", None)) for name, module in list(sys.modules.items())
    ]
    return sorted({path for top, path in modules if path and (top == package or _lies_in(path, folder))})


def _find_folder(home: str) -> str:
    """The folder that a module lies in; nothing for one that stands where packages are installed."""
    folder = os.path.dirname(getattr(sys.modules.get(home), "__file__", None) or "")
    return "" if os.path.basename(folder) in _INSTALLED else folder


def _lies_in(path: str, folder: str) -> bool:
    """Whether a file lies in a folder, and is not installed there: a project has its environment below it."""
    within = path.removeprefix(os.path.join(folder, "")) if folder else path
    return within != path and _INSTALLED.isdisjoint(within.split(os.sep))


def find_specs_by_code(working_call: WorkingCall, known: Iterable[TrialSpec]) -> dict[str, TrialSpec]:
    """Specs that execute what none of the ``known`` ones does, by what is said of them."""
    home = sys.modules.get(working_call.strategy.home)
    path = getattr(home, "__file__", None)
    found: dict[str, TrialSpec] = {}
    if not path:
        return found
    tracer = _Tracer(working_call, [path, *_list_package_files(working_call.strategy.home)])
    tracer.add(working_call.spec)
    modules = {path: home, **_find_modules({code.co_filename for code, _ in tracer.reached})}
    trees = {file: parse_source(code) for file, code in modules.items()}
    refusing = {(file, line) for file, tree in trees.items() for line in _list_refusing_lines(tree)}
    deadline = read_clock() + _BUDGET
    for spec in known:
        if spec != working_call.spec and _holds_more(tracer.reached, refusing):
            tracer.add(spec)
    text = "\n".join(map(_read_text, modules.values()))
    points = _POINTS if tracer.depends_on_numbers(text) else 0
    sizes = {size for tree in trees.values() for size in _list_compared_sizes(tree)}
    given = _list_given_specs(tracer, trees[path], deadline)
    specs = chain(
        given,
        _list_later_calls(working_call, trees.values()),
        _list_specs(working_call.spec, text, sorted(sizes), points),
    )
    for name, spec in specs:
        if not _holds_more(tracer.reached, refusing) or len(found) == _MOST or read_clock() > deadline:
            break
        if tracer.add(spec):
            found[name] = spec
    return found


def _find_modules(paths: set[str]) -> dict[str, Any]:
    """The modules of some files, by path."""
    known = {getattr(module, "__file__", None): module for module in list(sys.modules.values())}
    return {path: known[path] for path in sorted(paths) if path in known}


class _Tracer:
    """What calls execute, and whether one executes more than those before it."""

    def __init__(self, working_call: WorkingCall, watched: list[str]) -> None:
        """Watch files by the absolute path that their code objects carry."""
        self.reached: Places = set()
        self.working_call = working_call
        self._watched = watched
        self._has_backward = False
        self._starts: list[tuple[int, int]] = []
        self._starts_of = 0

    def add(self, spec: TrialSpec) -> bool | None:
        """Trace a call; whether it executes what none did before, None where it does not run.

        To differentiate it shows more only where the files have code that runs in a backward, or the forward is new.
        """
        forward = self._trace(spec, 0)
        if forward is None:
            return None
        if forward <= self.reached and not self._has_backward:
            return False
        places = self._trace(spec, 2) or set()
        self._has_backward = self._has_backward or not places <= forward
        is_new = not places <= self.reached
        self.reached |= places
        return is_new

    def leaves_open(self, condition: Condition) -> bool:
        """Whether a condition was asked, and code that another answer leads to was not executed."""
        starts = self._list_starts()
        asked = _is_executed([condition.test], starts)
        return asked and not all(_is_executed(block, starts) for block in condition.blocks)

    def _list_starts(self) -> list[tuple[int, int]]:
        """Where the expressions start that were executed, in order."""
        if self._starts_of != len(self.reached):
            found = {(p[0], p[2]) for p in _list_positions(self.reached) if p[0] is not None and p[2] is not None}
            self._starts, self._starts_of = sorted(found), len(self.reached)
        return self._starts

    def depends_on_numbers(self, text: str) -> bool:
        """Whether what is executed may depend on numbers: those of tensors, or what is drawn outside of PyTorch."""
        return bool(_SPEAKS_OF_CHANCE.search(text)) or reads_numbers(self.working_call, 2 * self._has_backward)

    def _trace(self, spec: TrialSpec, derivatives: int) -> Places | None:
        """What a call and its derivatives execute; None where it does not run."""
        in_this_thread = torch.autograd.set_multithreading_enabled(False)
        with in_this_thread, SpanRecorder(self._watched) as recorder:
            described = describe_computation(self.working_call, spec, derivatives, recorder.settle_call)
        return recorder.list_instructions() if described is not None else None


def _list_positions(reached: Places) -> Iterator[tuple[int | None, int | None, int | None, int | None]]:
    executed: dict[CodeType, set[int]] = {}
    for code, index in reached:
        executed.setdefault(code, set()).add(index)
    for code, indices in executed.items():
        yield from (place for index, place in enumerate(code.co_positions()) if index in indices)


def _is_executed(nodes: Sequence[Code], starts: list[tuple[int, int]]) -> bool:
    """Whether an expression was executed in some code that stands together."""
    first, last = nodes[0], nodes[-1]
    at = bisect_left(starts, (first.lineno, first.col_offset))
    return at < len(starts) and starts[at] < (last.end_lineno or 0, last.end_col_offset or 0)


_OF_NO_EXPRESSION = frozenset(
    ("RESUME", "CACHE", "NOP", "EXTENDED_ARG", "COPY_FREE_VARS", "MAKE_CELL", "RETURN_GENERATOR", "PUSH_EXC_INFO")
)
"""Instructions that belong to no expression of their own."""


_COMPUTING = ("CALL", "BINARY", "UNARY", "STORE_SUBSCR", "STORE_SLICE", "STORE_ATTR")
"""How the names of instructions begin that do more than to pass a value on."""


def _holds_more(reached: Places, refusing: Lines) -> bool:
    """Whether code that was entered has expressions that were not executed, but for what only ``refusing`` lines do."""
    executed: dict[CodeType, set[int]] = {}
    for code, index in reached:
        executed.setdefault(code, set()).add(index)
    return any(_has_other_expressions(code, indices, refusing) for code, indices in executed.items())


def _has_other_expressions(code: CodeType, executed: set[int], refusing: Lines) -> bool:
    places = list(code.co_positions())
    known = {places[index] for index in executed}
    rest = (i for i in dis.get_instructions(code) if i.opname not in _OF_NO_EXPRESSION)
    return any(
        places[i.offset // 2] not in known
        and i.positions is not None
        and i.positions.lineno is not None
        and (code.co_filename, i.positions.lineno) not in refusing
        for i in rest
    )


def _list_refusing_lines(tree: ast.AST) -> set[int]:
    """The lines of branches that end by raising, of assertions and of handlers."""
    found: set[int] = set()
    for node in ast.walk(tree):
        blocks = [getattr(node, name, []) for name in ("body", "orelse")] if isinstance(node, ast.If) else []
        refused = [block for block in blocks if block and isinstance(block[-1], ast.Raise)]
        refused += [[node]] if isinstance(node, ast.Assert | ast.Raise | ast.ExceptHandler) else []
        for block in refused:
            found.update(range(block[0].lineno, (block[-1].end_lineno or block[-1].lineno) + 1))
    return found


def _list_given_specs(tracer: _Tracer, tree: ast.AST, deadline: float) -> Iterator[tuple[str, TrialSpec]]:
    """Specs in which arguments that are None otherwise are given: of each group in the first form that runs.

    Such as code asks about where it was run, and would run other code; if need be in a mode that it compares as well.
    """
    working_call = tracer.working_call
    unset, search = working_call.strategy.unset, CallSearch(deadline, working_call.log)
    conditions = read_conditions(tree, unset)
    tried: set[tuple[str, ...]] = set()
    while True:
        groups = group_names(filter(tracer.leaves_open, conditions), unset)
        group = next((names for names in groups if names not in tried), None)
        if group is None:
            return
        tried.add(group)
        asking = [condition for condition in conditions if not set(group).isdisjoint(condition.names)]
        forms = list(list_forms(group, tree))
        try:
            for modes in ({}, *_list_modes(asking, working_call.strategy.optional)):
                turned = replace(working_call.spec, turned={**working_call.spec.turned, **modes})
                likely = replace(working_call, spec=turned)
                given = _find_fitting_spec(search, likely, forms)
                if given is not None:
                    names = (*group, *(f"{place.rpartition(':')[2]}={mode!r}" for place, mode in modes.items()))
                    yield label_configuration(Configuration.OPTIONAL_ARGUMENTS, *names), given
                if given is None or not any(map(tracer.leaves_open, asking)):
                    break
        except CannotCallError:  # out of time
            return


def _list_modes(conditions: Iterable[Condition], places: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The texts with which conditions compare other arguments of the call or of its constructor, one at a time."""
    known = {place.rpartition(":")[2]: place for place in places}
    tests = [node for condition in conditions for node in ast.walk(condition.test) if isinstance(node, ast.Compare)]
    asked = dict.fromkeys(
        (known[name], other.value)
        for node in tests
        for name, other in [(read_identifier(node.left), node.comparators[0])]
        if name in known and isinstance(other, ast.Constant) and isinstance(other.value, str)
    )
    yield from ({place: text} for place, text in asked)


def _find_fitting_spec(
    search: CallSearch, working_call: WorkingCall, forms: Iterable[Mapping[str, TensorForm]]
) -> TrialSpec | None:
    """The spec with arguments in the first of some forms in which the call runs.

    None where there is none, or where a complaint stays the same whatever the form is: nothing of that kind is wanted.
    """
    complaints: list[str] = []
    for form in forms:
        for given in _list_sizes_of(form, complaints, working_call.spec):
            found = search.run_trial(working_call.strategy, given)
            if found is not None:
                return replace(found.spec, learned=tuple(_list_learned(found)))
            complaints.append(search.failed_trials.pop().complaint if search.failed_trials else "")
        if len(complaints) >= _PATIENCE and len(set(complaints[-_PATIENCE:])) == 1:
            break
    return None


def _list_sizes_of(given: Mapping[str, TensorForm], complaints: Sequence[str], plain: TrialSpec) -> Iterator[TrialSpec]:
    """Specs with arguments in some form, and then in the sizes that the newest of the complaints asks for."""
    if plain.shape.batch == plain.shape.heads:  # else no complaint tells which of the two is amiss
        plain = replace(plain, shape=replace(plain.shape, batch=plain.shape.heads + 1))
    for _ in range(_RESIZED):
        yield replace(plain, given=given)
        asked = [change for pair in find_unequal_sizes(complaints[-1]) for change in (pair, pair[::-1])]
        held = {size for form in given.values() for size in form.list_sizes(plain.spread)}
        known = {change for form in given.values() for change in form.resized}
        change = next((c for c in sorted(asked, key=lambda change: change[0] not in held) if c not in known), None)
        if change is None:
            return
        given = {name: form.resize(*change) for name, form in given.items()}


def _list_learned(found: WorkingCall) -> Iterator[str]:
    """What is given and a caller could learn, as far as autograd uses it: an author may mean a number or a constant."""
    names = tuple(name for name in found.make_call().extras if name in found.spec.given and may_be_learned(name))
    with suppress(Exception):  # what the backward of the target raises, the probe of q, k and v tells
        gradients = compute_first_gradients(found.make_call(replace(found.spec, learned=names)), found.spec.seed)
        yield from (name for name in names if gradients[name] is not None or is_learned(name))


def _list_later_calls(working_call: WorkingCall, trees: Iterable[ast.AST]) -> Iterator[tuple[str, TrialSpec]]:
    """Specs in which the target has counted to where its code asks about it."""
    spec, module = working_call.spec, working_call.make_call().module
    counts = [count for tree in trees for count in list_counts(module, tree)] if module is not None else []
    for place, number in counts:
        label = label_configuration(Configuration.LATER_CALL, f"{place}={number}")
        yield label, replace(spec, turned={**spec.turned, ATTRIBUTE + place: number})


def _list_specs(spec: TrialSpec, text: str, sizes: list[int], points: int) -> Iterator[tuple[str, TrialSpec]]:
    for dtype in _DTYPES if _SPEAKS_OF_DTYPES.search(text) else ():
        if dtype is not spec.dtype:
            label = label_configuration(Configuration.DTYPE, str(dtype).removeprefix("torch."))
            yield label, replace(spec, dtype=dtype)
    yield from list_input_scales(spec) if points else ()
    for number in range(1, points + 1):
        yield label_configuration(Configuration.POINT, number), replace(spec, seed=spec.seed + number)
    for name, shape in _list_shapes(spec.shape, sizes):
        yield name, replace(spec, shape=shape)


def _read_text(home: Any) -> str:
    try:
        return inspect.getsource(home)
    except (OSError, TypeError):
        return ""


def _list_compared_sizes(tree: ast.AST) -> Iterator[int]:
    """The whole numbers that code compares something with, and those that it takes remainders by."""
    for node in ast.walk(tree):
        parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        parts += [node.right] if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) else []
        for part in (inner for one in parts for inner in ast.walk(one)):
            if isinstance(part, ast.Constant) and type(part.value) is int and part.value > 0:
                yield part.value


def _list_shapes(shape: Shape, asked: list[int]) -> Iterator[tuple[str, Shape]]:
    """Shapes with one axis of a length that the code asks about, or one more; and with a single one of each."""
    yield Configuration.ONE_QUERY, replace(shape, queries=1)
    yield Configuration.ONE_POSITION, replace(shape, queries=1, keys=1)
    sizes = list(dict.fromkeys([1, 8, *(size + more for size in asked for more in (0, 1))]))
    for size in sizes:
        if size <= _LARGEST["heads"]:
            yield label_configuration(Configuration.HEADS, size), replace(shape, heads=size)
        if size <= _LARGEST["batch"]:
            yield label_configuration(Configuration.BATCH, size), replace(shape, batch=size)
    for size in sizes:
        if 1 < size <= _LARGEST["length"]:
            longer = replace(shape, batch=1, queries=size, keys=size)
            yield label_configuration(Configuration.POSITIONS, size), longer
            yield label_configuration(Configuration.KEYS, size), replace(shape, batch=1, keys=size)
        if 1 < size <= _LARGEST["dim"]:
            yield label_configuration(Configuration.CHANNELS, size), replace(shape, dim=size, value_dim=size)
