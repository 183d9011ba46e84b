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
from theria_lint.worker.find_call.computation import describe_computation
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
    reached: Places = set()
    refusing = _list_refusing_lines(parse_source(home))
    deadline = read_clock() + _BUDGET
    for spec in known:
        if not reached or _holds_more(reached, refusing):
            reached |= _trace(working_call, spec, watched) or set()
    for name, spec in _list_specs(working_call.spec, home):
        if not _holds_more(reached, refusing) or len(found) == _MOST or read_clock() > deadline:
            break
        places = _trace(working_call, spec, watched)
        if places is not None and not places <= reached:
            reached |= places
            found[name] = spec
    return found


def _trace(working_call: WorkingCall, spec: TrialSpec, watched: list[str]) -> Places | None:
    """What a call and its derivatives execute; None where it does not run."""
    in_this_thread = torch.autograd.set_multithreading_enabled(False)
    with in_this_thread, SpanRecorder(watched) as recorder:
        described = describe_computation(working_call, spec)
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


def _list_specs(spec: TrialSpec, home: Any) -> Iterator[tuple[str, TrialSpec]]:
    text = _read_text(home)
    for dtype in _DTYPES if _SPEAKS_OF_DTYPES.search(text) else ():
        if dtype is not spec.dtype:
            label = label_configuration(Configuration.DTYPE, str(dtype).removeprefix("torch."))
            yield label, replace(spec, dtype=dtype)
    for number in range(1, _POINTS + 1):
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
