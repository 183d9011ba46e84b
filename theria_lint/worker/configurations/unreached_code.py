"""Find trial specs that execute code which no other does: other precisions, sizes that the code asks about, points."""

from __future__ import annotations

import ast
import dis
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import CodeType
from typing import Any

import torch

from theria.probes.layouts import Shape
from theria_lint.model import Configuration, label_configuration
from theria_lint.worker.clock import read_clock
from theria_lint.worker.find_call.call_strategy import TrialSpec
from theria_lint.worker.find_call.computation import describe_computation, reads_numbers
from theria_lint.worker.find_call.run_trial import WorkingCall
from theria_lint.worker.find_call.signatures import parse_source
from theria_lint.worker.trace import SpanRecorder

_BUDGET = 3.0
"""Seconds of processor time after which no further spec is tried."""

_MOST = 4
"""How many specs are worth it: each is measured like another configuration."""

_POINTS = 16
"""At how many points code is looked for that asks about the numbers it is given."""

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_SPEAKS_OF_DTYPES = re.compile(r"dtype|float(16|32|64)|half|double|\bamp\b|is_autocast|itemsize|finfo")

_SPEAKS_OF_CHANCE = re.compile(r"\brandom\b")
"""Of numbers that are drawn outside of PyTorch."""

_LARGEST = {"batch": 16, "heads": 16, "dim": 128, "length": 1024}
"""Sizes up to which an axis is made as long as the code asks about."""

Places = set[tuple[CodeType, int]]


def find_specs_by_code(working_call: WorkingCall, known: Iterable[TrialSpec]) -> dict[str, TrialSpec]:
    """Specs that execute what none of the ``known`` ones does, by what is said of them."""
    home = sys.modules.get(working_call.strategy.home)
    watched = [path for path in {getattr(home, "__file__", None)} if path]
    found: dict[str, TrialSpec] = {}
    if not watched:
        return found
    tracer = _Tracer(working_call, watched)
    refusing = _list_refusing_lines(parse_source(home))
    deadline = read_clock() + _BUDGET
    for spec in known:
        if not tracer.reached or _holds_more(tracer.reached, refusing):
            tracer.add(spec)
    points = _POINTS if tracer.depends_on_numbers(_read_text(home)) else 0
    for name, spec in _list_specs(working_call.spec, home, points):
        if not _holds_more(tracer.reached, refusing) or len(found) == _MOST or read_clock() > deadline:
            break
        if tracer.add(spec):
            found[name] = spec
    return found


class _Tracer:
    """What calls execute, and whether one executes more than those before it."""

    def __init__(self, working_call: WorkingCall, watched: list[str]) -> None:
        """Watch files by the absolute path that their code objects carry."""
        self.reached: Places = set()
        self._working_call = working_call
        self._watched = watched
        self._has_backward = False

    def add(self, spec: TrialSpec) -> bool:
        """Trace a call; whether it runs, and executes what none did before.

        To differentiate it shows more only where the files have code that runs in a backward, or the forward is new.
        """
        forward = self._trace(spec, 0)
        if forward is None or (forward <= self.reached and not self._has_backward):
            return False
        places = self._trace(spec, 2) or set()
        self._has_backward = self._has_backward or not places <= forward
        is_new = not places <= self.reached
        self.reached |= places
        return is_new

    def depends_on_numbers(self, text: str) -> bool:
        """Whether what is executed may depend on numbers: those of tensors, or what is drawn outside of PyTorch."""
        return bool(_SPEAKS_OF_CHANCE.search(text)) or reads_numbers(self._working_call, 2 * self._has_backward)

    def _trace(self, spec: TrialSpec, derivatives: int) -> Places | None:
        """What a call and its derivatives execute; None where it does not run."""
        in_this_thread = torch.autograd.set_multithreading_enabled(False)
        with in_this_thread, SpanRecorder(self._watched) as recorder:
            described = describe_computation(self._working_call, spec, derivatives)
        return recorder.list_instructions() if described is not None else None


_OF_NO_EXPRESSION = frozenset(
    ("RESUME", "CACHE", "NOP", "EXTENDED_ARG", "COPY_FREE_VARS", "MAKE_CELL", "RETURN_GENERATOR", "PUSH_EXC_INFO")
)
"""Instructions that belong to no expression of their own."""


def _holds_more(reached: Places, refusing: set[int]) -> bool:
    """Whether code that was entered has expressions that were not executed, but for what only ``refusing`` lines do."""
    executed: dict[CodeType, set[int]] = {}
    for code, index in reached:
        executed.setdefault(code, set()).add(index)
    return any(_has_other_expressions(code, indices, refusing) for code, indices in executed.items())


def _has_other_expressions(code: CodeType, executed: set[int], refusing: set[int]) -> bool:
    places = list(code.co_positions())
    known = {places[index] for index in executed}
    rest = (i for i in dis.get_instructions(code) if i.opname not in _OF_NO_EXPRESSION)
    return any(
        places[i.offset // 2] not in known and i.positions is not None and i.positions.lineno not in {*refusing, None}
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


def _list_specs(spec: TrialSpec, home: Any, points: int) -> Iterator[tuple[str, TrialSpec]]:
    text = _read_text(home)
    for dtype in _DTYPES if _SPEAKS_OF_DTYPES.search(text) else ():
        if dtype is not spec.dtype:
            label = label_configuration(Configuration.DTYPE, str(dtype).removeprefix("torch."))
            yield label, replace(spec, dtype=dtype)
    for number in range(1, points + 1):
        yield label_configuration(Configuration.POINT, number), replace(spec, seed=spec.seed + number)
    for name, shape in _list_shapes(spec.shape, sorted(set(_list_compared_sizes(parse_source(home))))):
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
