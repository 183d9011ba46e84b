"""Infer the shapes of arbitrary tensor arguments: equate axes until the function runs, as its errors ask."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor

from theria.probes.layouts import Shape
from theria.probes.point import isolated
from theria_lint.reasons import CodedError, ReasonCode
from theria_lint.worker.clock import read_clock
from theria_lint.worker.find_call.argument_values import (
    CALL_VALUES,
    is_graph,
    is_known_by_name,
    is_learned,
    make_graphs,
)
from theria_lint.worker.find_call.call_strategy import (
    BoundCall,
    CallStrategy,
    TrialSpec,
    copy_tensors,
    list_discrete,
)
from theria_lint.worker.find_call.choose_arguments import choose_arguments, fix_arguments, list_optional_parameters
from theria_lint.worker.find_call.run_trial import check_depends_on_inputs
from theria_lint.worker.find_call.signatures import (
    BATCH,
    HEADS,
    POSITIONAL,
    TIME,
    WIDTH,
    NoSuchChoiceError,
    Parameters,
    Symbols,
    find_axis_meaning,
    find_shape_statements,
    order_by_position,
    read_source_text,
)
from theria_lint.worker.find_call.unset_tensors import list_unset_tensors

MAX_COMBINATIONS = 60
"""How many combinations of numbers of axes are tried, the likeliest first."""

SOLVER_SECONDS = 5.0
"""After which no further combination is tried."""

_CONSTANT = re.compile(
    r"mask|alibi|slopes|^(cos|sin)$|freqs|rope|rotary|position|^pos$|table|(^|_)(ids?|idx|index|indices|len(s|gths))$|seqlens",
    re.IGNORECASE,
)
"""What the names of tensors look like whose values matter: other tables know these."""

_COUNTS = re.compile(r"^(n|num|max|min|is|use|return|with)_|_?(size|dim|len|ratio|rate|slope|type|mode|fn)$")
"""What the names of numbers and switches look like that no table knows."""

_USES = (
    r"\b{0}\s*@|@\s*{0}\b|\b{0}\.(shape|size|view|reshape|transpose|permute|mT|T|t|unsqueeze|dim|matmul|mm|bmm)\b"
    r"|(matmul|mm|bmm|linear)\(\s*{0}\b|(matmul|mm|bmm|linear)\([^()]*,\s*{0}\b|einsum\([^()]*\b{0}\b|\b{0}\["
)
"""How a text uses a tensor, with its name for ``{0}``."""


def make_shaped_strategy(
    function: Callable[..., Any], parameters: Parameters, fixed: Mapping[str, Any]
) -> CallStrategy:
    """The way to call a function whose required parameters are tensors of shapes that its text and complaints tell."""
    text = read_source_text(function)
    free = [name for name in list_required_parameters(parameters) if name not in fixed]
    facts = find_axis_facts(text)
    shaped = [name for name in free if _holds_tensor(name, parameters[name], text, facts)]
    solver = _ShapeSolver(function, parameters, fixed, shaped, facts)
    rest = tuple(name for name in free if name not in shaped)
    optional, unset = list_optional_parameters(parameters, fixed), list_unset_tensors(parameters, fixed)
    return CallStrategy(solver.solve_call, rest, optional, unset=unset)


def list_required_parameters(parameters: Parameters) -> list[str]:
    """The parameters that need a value."""
    kinds = (*POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
    return [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and p.kind in kinds]


@dataclass
class _ShapeSolver:
    """Finds the axes of a function's tensors, once for each choice of its other arguments and each dtype.

    ``found``: those that ran, by choice and dtype; and by sizes too what was raised where none did.
    """

    function: Callable[..., Any]
    parameters: Parameters
    fixed: Mapping[str, Any]
    shaped: list[str]
    facts: Mapping[str, Symbols]
    found: dict[Any, AxisAssignment | Exception] = field(default_factory=dict)

    def solve_call(self, spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        """The call with tensors of the shapes that ran.

        Raises:
            Exception: what the function raised for the shapes with which it got furthest, if none ran.
        """
        if not self.shaped:
            raise CodedError(ReasonCode.NO_TENSOR_PARAMETER)
        key = (spec.dtype, tuple(choice.items()))
        assignment = self.found.get(key) or self.found.get((*key, spec.shape)) or self._solve_axes(spec, choice)
        self.found[(*key, spec.shape) if isinstance(assignment, Exception) else key] = assignment
        if isinstance(assignment, Exception):
            raise assignment
        return self._make_shaped_call(assignment, spec, choice)

    def _solve_axes(self, spec: TrialSpec, choice: Mapping[str, int]) -> AxisAssignment | Exception:
        flat = any(map(is_graph, self.parameters))
        options = [list_likely_axes(name, self.facts, flat=flat) for name in self.shaped]
        combinations = sorted(product(*(range(len(axes)) for axes in options)), key=sum)
        first: Exception | None = None
        deadline = read_clock() + SOLVER_SECONDS
        for indices in islice(combinations, MAX_COMBINATIONS):
            assignment = {name: axes[i] for name, axes, i in zip(self.shaped, options, indices, strict=True)}
            outcome = self._equate_until_running(assignment, spec, choice)
            if not isinstance(outcome, Exception):
                return outcome
            first = first or outcome
            if read_clock() > deadline:
                break
        assert first is not None
        return first

    def _equate_until_running(
        self, assignment: AxisAssignment, spec: TrialSpec, choice: Mapping[str, int]
    ) -> AxisAssignment | Exception:
        """The plan with axes equated until the function runs, or what it raises when nothing more can be equated."""
        error = self._find_complaint(assignment, spec, choice)
        while error is not None:
            plans = list(equate_axes(assignment, spec.shape, str(error)))
            outcomes = ((other, self._find_complaint(other, spec, choice)) for other in plans)
            better = next(((p, e) for p, e in outcomes if str(e) != str(error)), None)
            if better is None:
                return error
            assignment, error = better
        return assignment

    def _find_complaint(
        self, assignment: AxisAssignment, spec: TrialSpec, choice: Mapping[str, int]
    ) -> Exception | None:
        """What the function raises for a plan, or says by an output that does not depend on its inputs."""
        try:
            made = self._make_shaped_call(assignment, spec, choice)
            with isolated(spec.seed), torch.no_grad():
                check_depends_on_inputs(made.compute_output, list(made.inputs.values()))
        except NoSuchChoiceError:
            raise
        except Exception as error:  # code that was not written for us
            return error
        return None

    def _make_shaped_call(self, assignment: AxisAssignment, spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        sizes = choose_axis_sizes(assignment, spec.shape)
        tensors = {
            n: _draw_scaled_tensor(n, tuple(sizes[axis] for axis in axes), spec) for n, axes in assignment.items()
        }
        nodes = next((size for axis, size in sizes.items() if axis.kind == TIME), spec.shape.queries)
        rest = {name: p for name, p in self.parameters.items() if name not in tensors}
        given = {
            n: _pick_graph(n, nodes, spec, choice.get(n, 0)) for n in list_required_parameters(rest) if is_graph(n)
        }
        fixed = fix_arguments({**self.fixed, **given}, spec, rest)
        others = choose_arguments(rest, spec, CALL_VALUES, choice, fixed)

        def bound(*values: Tensor) -> Any:
            arguments = {**copy_tensors(others), **dict(zip(tensors, values, strict=True))}
            named = {n: v for n, v in arguments.items() if self.parameters[n].kind is inspect.Parameter.KEYWORD_ONLY}
            return self.function(*order_by_position(self.parameters, arguments), **named)

        return BoundCall(bound, tensors, discrete=list_discrete(others))


def _holds_tensor(name: str, parameter: inspect.Parameter, text: str, facts: Mapping[str, Symbols]) -> bool:
    """Whether a parameter holds a tensor whose shape is to be found: by its annotation or use, or for want of more."""
    annotation = str(parameter.annotation).lower()
    if is_graph(name) or _CONSTANT.search(name) or re.search(r"\b(int|bool|float|str|list|dict)\b", annotation):
        return False
    if "tensor" in annotation or name in facts or is_learned(name):
        return True
    if re.search(_USES.replace("{0}", re.escape(name)), text):
        return True
    return not is_known_by_name(name) and not _COUNTS.search(name)


def _draw_scaled_tensor(name: str, shape: tuple[int, ...], spec: TrialSpec) -> Tensor:
    """Random numbers; those of a projection keep what they multiply at its size."""
    tensor = spec.draw_tensor(name, shape)
    if WEIGHT_NAMES.search(name) and tensor.dim() > 1:
        tensor = tensor / tensor.shape[-2] ** 0.5
    return tensor.mT.contiguous().mT if spec.strided and tensor.dim() > 1 else tensor


def _pick_graph(name: str, nodes: int, spec: TrialSpec, index: int) -> Tensor:
    found = make_graphs(name, nodes, spec.dtype, spec.device)
    if index >= len(found):
        raise NoSuchChoiceError
    return found[index]


_COUNTED = re.compile(r"[nmij]|\w*seq_?len\w*|nodes?|num_nodes|n_(?!heads?)\w*")
"""What axes of positions are called where no layout is known: nodes of a graph, and whatever is counted."""

_BY_RANK = {1: (WIDTH,), 2: (TIME, WIDTH), 3: (BATCH, TIME, WIDTH), 4: (BATCH, HEADS, TIME, WIDTH)}
_OF_WEIGHTS = {1: (WIDTH,), 2: (WIDTH, WIDTH), 3: (HEADS, WIDTH, WIDTH)}

WEIGHT_NAMES = re.compile(r"^w$|^w_|^w[qkvo]|_w$|weights?$|proj|kernel|^u_|^theta|matrix", re.IGNORECASE)
VECTOR_NAMES = re.compile(r"^a$|^a_|_a$|^b$|^b_|bias|vec|^att_", re.IGNORECASE)
_COMBINED = re.compile(r"q?kv(?=_)|(?<=_)q?kv", re.IGNORECASE)

_EQUAL = (
    re.compile(r"cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)"),
    re.compile(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)"),
    re.compile(r"has size (\d+) for operand \d+ which does not broadcast with previously seen size (\d+)"),
    re.compile(r"expanded size of the tensor \((\d+)\) must match the existing size \((\d+)\)"),
    re.compile(r"Expected size (\d+) but got size (\d+)"),
    re.compile(r"shape of the mask \[(\d+)[^]]*\].*shape of the indexed tensor \[(\d+)"),
    re.compile(r"size mismatch, got input \(\d+\), mat \(\d+x(\d+)\), vec \((\d+)\)"),
)
_PAIRS = re.compile(r"\[(\d+), (\d+)\] but got: \[(\d+), (\d+)\]")


@dataclass(frozen=True)
class Axis:
    """An axis of the parameter ``name``; ``kind`` is what is known of it.

    ``times``: how many of one width lie side by side in it, as in the weights of q, k and v in one matrix.
    """

    kind: str
    name: str
    index: int
    times: int = 1

    @property
    def single(self) -> Axis:
        """One of those that lie side by side."""
        return replace(self, times=1)


Axes = tuple[Axis, ...]
AxisAssignment = Mapping[str, Axes]
"""The axes of each tensor, by the name of its parameter."""


def find_axis_facts(text: str) -> dict[str, Symbols]:
    """The axes of names as a text describes, unpacks or contracts them; what it says first counts."""
    found: dict[str, Symbols] = {}
    for name, symbols in (*find_shape_statements(text), *_find_axes_in_code(text)):
        found.setdefault(name, symbols)
    return found


def _find_axes_in_code(text: str) -> Iterator[tuple[str, Symbols]]:
    """``B, T, C = x.shape`` and ``einsum("btc,cd->btd", x, w)``, whatever the axes are called."""
    try:
        tree = ast.parse(textwrap.dedent(text))
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            yield from _find_unpacked_axes(node.targets[0], node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("einsum"):
            yield from _find_einsum_axes(node)


def _find_unpacked_axes(target: ast.Tuple, value: ast.expr) -> Iterator[tuple[str, Symbols]]:
    sized = value.func if isinstance(value, ast.Call) and not value.args else value
    if not isinstance(sized, ast.Attribute) or sized.attr not in ("shape", "size"):
        return
    axes = tuple(axis.id for axis in target.elts if isinstance(axis, ast.Name))
    if isinstance(sized.value, ast.Name) and len(axes) == len(target.elts):
        yield sized.value.id, axes


def _find_einsum_axes(call: ast.Call) -> Iterator[tuple[str, Symbols]]:
    texts = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if not texts or "..." in texts[0]:
        return
    terms = texts[0].partition("->")[0].split(",")
    operands = [a for a in call.args if not isinstance(a, ast.Constant)]
    for term, operand in zip(terms, operands, strict=False):
        axes = tuple(term.split() if " " in term.strip() else term.strip())
        if isinstance(operand, ast.Name):
            yield operand.id, axes
        elif isinstance(operand, ast.Subscript) and isinstance(operand.value, ast.Name) and _has_only_slices(operand):
            yield operand.value.id, axes


def _has_only_slices(subscript: ast.Subscript) -> bool:
    parts = subscript.slice.elts if isinstance(subscript.slice, ast.Tuple) else [subscript.slice]
    return all(isinstance(part, ast.Slice) for part in parts)


def list_likely_axes(name: str, facts: Mapping[str, Symbols], *, flat: bool) -> list[Axes]:
    """The axes that a tensor may have, the likeliest first; ``flat``: there is no axis of batch in this code."""
    found = [_make_own_axes(name, [_find_axis_kind(symbol) for symbol in facts[name]])] if name in facts else []
    if _COMBINED.search(name) and (WEIGHT_NAMES.search(name) or VECTOR_NAMES.search(name)):
        narrow = Axis(WIDTH, name, 0)
        wide = replace(narrow, times=3 if "qkv" in name.lower() else 2)
        found += [(wide,)] if VECTOR_NAMES.search(name) else [(narrow, wide), (wide, narrow)]
    ranks: Sequence[int] = (2, 3, 4) if flat else (3, 2, 4)
    if VECTOR_NAMES.search(name):
        ranks = (1, 2, 3)
    elif WEIGHT_NAMES.search(name):
        ranks = (2, 3, 1)
    kinds = _OF_WEIGHTS if WEIGHT_NAMES.search(name) else _BY_RANK
    return list(dict.fromkeys(found + [_make_own_axes(name, kinds[rank]) for rank in ranks]))


def _make_own_axes(name: str, kinds: Sequence[str]) -> Axes:
    return tuple(Axis(kind, name, i) for i, kind in enumerate(kinds))


def _find_axis_kind(symbol: str) -> str:
    name = symbol.lower()
    return TIME if _COUNTED.fullmatch(name) else find_axis_meaning(name, 0, 1) or WIDTH


def choose_axis_sizes(assignment: AxisAssignment, shape: Shape) -> dict[Axis, int]:
    """A size for each axis, no two the same but where one is several of the other."""
    free = {
        BATCH: (shape.batch + 1, 1),
        HEADS: (shape.heads, shape.heads),
        TIME: (shape.queries, 1),
        WIDTH: (shape.dim, 2),
    }
    axes = [axis for axes in assignment.values() for axis in axes]
    singles: dict[Axis, int] = {}
    for axis in dict.fromkeys(axis.single for axis in axes):
        size, step = free[axis.kind]
        while size in singles.values():
            size += step
        singles[axis] = size
    return {axis: axis.times * singles[axis.single] for axis in axes}


def equate_axes(assignment: AxisAssignment, shape: Shape, complaint: str) -> Iterator[AxisAssignment]:
    """The plans in which two axes are one, as a complaint asks; and, if it asks for nothing, all of a kind are."""
    axes = {size: axis for axis, size in choose_axis_sizes(assignment, shape).items()}
    asked = False
    for one, other in _find_equal_sizes(complaint):
        if one != other and one in axes and other in axes and _may_be_one(axes[one], axes[other]):
            asked = True
            yield _rename_axes(assignment, {axes[other].single: axes[one].single})
    if not asked:
        first: dict[str, Axis] = {}
        same = {axis.single: first.setdefault(axis.kind, axis.single) for axis in axes.values()}
        if any(axis != kept for axis, kept in same.items()):
            yield _rename_axes(assignment, same)


def _find_equal_sizes(complaint: str) -> Iterator[tuple[int, int]]:
    for pattern in _EQUAL:
        yield from ((int(a), int(b)) for a, b in pattern.findall(complaint))
    for a, b, c, d in _PAIRS.findall(complaint):
        yield from ((int(a), int(c)), (int(b), int(d)))


def _may_be_one(one: Axis, other: Axis) -> bool:
    """Whether two axes may be the same: a batch is nothing else, and three side by side are not one."""
    return one.times == other.times and (BATCH not in (one.kind, other.kind) or one.kind == other.kind)


def _rename_axes(assignment: AxisAssignment, singles: Mapping[Axis, Axis]) -> AxisAssignment:
    return {
        name: tuple(replace(singles.get(axis.single, axis.single), times=axis.times) for axis in axes)
        for name, axes in assignment.items()
    }
