"""Find magnitudes of the inputs, and of the gradient, at which what code compares comes out otherwise.

Inputs are standard normal, so that a limit at 50 limits nothing, and what stands behind it is not run: neither what
lies beyond a clamp, nor the other side of ``where(scores.abs() > 30, …)``, nor a hook that clips gradients at 100.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product
from typing import Any

import torch
from torch import Tensor

from theria_lint.model import Configuration, label_configuration
from theria_lint.worker.clock import read_clock
from theria_lint.worker.find_call.call_strategy import TrialSpec
from theria_lint.worker.find_call.computation import OperatorRecorder, describe_computation
from theria_lint.worker.find_call.magnitudes import Magnitudes
from theria_lint.worker.find_call.run_trial import WorkingCall

_INPUT_SCALES = (3.0, 10.0, 30.0, 100.0, 1000.0, 0.1, 0.01)
"""By what inputs are multiplied: the least that does is taken, for large scores saturate."""

_DISTANCES = (10.0, 100.0)
"""How large the vectors are that inputs are moved to."""

_PARAMETER_SCALES = (3.0, 30.0, 0.1)
_GRADIENT_SCALES = (10.0, 100.0, 1000.0, 0.01)

_VECTORS = 2
"""Around how many vectors inputs are moved: scores that are large by one may be negative by the other."""

_COMMON = (1e-5, 1e8)
"""Between these a constant is one that numbers may get to; what guards a division is less, what stands for -∞ more."""

_BUDGET = 2.0
"""Seconds of processor time after which no further magnitude is tried."""

_MOST = 3
"""How many magnitudes are worth it: each is measured like another configuration."""

_COMPARING = frozenset(("gt", "ge", "lt", "le"))
_LIMITING = frozenset(
    ("clamp", "clamp_min", "clamp_max", "hardtanh", "threshold", "hardshrink", "softshrink", "maximum", "minimum")
)
"""Operators that give back what they are given, within limits."""
_ROUNDING = frozenset(("round", "floor", "ceil", "trunc"))
"""Operators that give 0 of what is small."""

_Question = tuple[str, int]
"""An operator, and the so many-th call of it."""
_Answers = dict[_Question, frozenset[bool]]
"""Whether it is true of some numbers, and whether false of some."""


def find_magnitudes(working_call: WorkingCall) -> dict[str, TrialSpec]:
    """Specs in which a comparison that came out one way for all numbers comes out the other way, for some or all.

    Both are wanted: where all scores are beyond a limit what differs between them shows, where some are what the others
    make of it. Nothing is tried of a target that a single call has used up the time of, as interpreted kernels may.
    """
    deadline = read_clock() + _BUDGET
    first = _list_answers(working_call, working_call.spec)
    asked = {question: {answers} for question, answers in first.items() if len(answers) == 1}
    found: dict[str, TrialSpec] = {}
    spec, has_parameters = working_call.spec, working_call.make_call().module is not None
    for name, scaled in chain(list_input_scales(spec), _list_other_scales(spec, parameters=has_parameters)):
        if not asked or len(found) == _MOST or read_clock() > deadline:
            break
        answers = _list_answers(working_call, scaled)
        new = [question for question, seen in asked.items() if question in answers and answers[question] not in seen]
        if new:
            found[name] = scaled
        for question in new:
            asked[question].add(answers[question])
    return found


def list_input_scales(spec: TrialSpec) -> Iterator[tuple[str, TrialSpec]]:
    """Specs with inputs of other magnitudes, by what is said of them; those first in which softmax is not saturated."""
    for scale, number in product(_DISTANCES, range(1, 1 + _VECTORS)):
        label = label_configuration(Configuration.MOVED_INPUTS, f"{scale:g}", number)
        yield label, replace(spec, magnitudes=Magnitudes(inputs=scale, around=number))
    for scale in _INPUT_SCALES:
        label = label_configuration(Configuration.SCALED_INPUTS, f"{scale:g}")
        yield label, replace(spec, magnitudes=Magnitudes(inputs=scale))


def _list_other_scales(spec: TrialSpec, *, parameters: bool) -> Iterator[tuple[str, TrialSpec]]:
    for scale in _PARAMETER_SCALES if parameters else ():
        label = label_configuration(Configuration.SCALED_PARAMETERS, f"{scale:g}")
        yield label, replace(spec, magnitudes=Magnitudes(parameters=scale))
    for scale in _GRADIENT_SCALES:
        label = label_configuration(Configuration.SCALED_GRADIENT, f"{scale:g}")
        yield label, replace(spec, magnitudes=Magnitudes(gradient=scale))


def _list_answers(working_call: WorkingCall, spec: TrialSpec) -> _Answers:
    """What is asked of the numbers in a call and its derivatives, with the answers; nothing where it does not run."""
    recorder = _ComparisonRecorder()
    with recorder, torch.autograd.set_multithreading_enabled(False):
        described = describe_computation(working_call, spec)
    if described is None or not all(bool(torch.isfinite(numbers).all()) for numbers in described[1]):
        return {}
    return recorder.answers


class _ComparisonRecorder(OperatorRecorder):  # type: ignore[no-untyped-call]
    """Hears of each comparison whether it is true of some numbers, and whether it is false of some.

    Of an operator's calls in the order in which they come: the same code asks in the same order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: _Answers = {}
        self._asked: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        asks = name in _COMPARING or name in _LIMITING or name in _ROUNDING
        heard = asks and bool(args) and _is_real(args[0]) and not any(map(_is_uncommon, args[1:]))
        given = args[0].clone() if heard else None
        returned = func(*args, **(kwargs or {}))
        if given is not None and isinstance(returned, Tensor):
            self._hear(name, _answer(name, given, returned))
        return returned

    def _hear(self, name: str, answer: Tensor) -> None:
        self._asked[name] += 1
        if answer.numel():
            self.answers[name, self._asked[name]] = frozenset(answer.flatten().tolist())


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _is_uncommon(value: Any) -> bool:
    least, most = _COMMON
    return isinstance(value, float | int) and value != 0 and not least <= abs(value) <= most


def _answer(name: str, given: Tensor, returned: Tensor) -> Tensor:
    if name in _COMPARING:
        return returned.bool()
    return returned == 0 if name in _ROUNDING else returned == given
