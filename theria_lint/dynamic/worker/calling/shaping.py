"""How to call functions of any tensors (latents and projections, features and a graph): shapes are found by running."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor

from theria.probes.point import isolated
from theria_lint.dynamic.worker.calling.arguments import CALL, is_known, is_learned
from theria_lint.dynamic.worker.calling.axes import TIME, WEIGHTS, Plan, axes_of, equated, facts_in, sizes_for
from theria_lint.dynamic.worker.calling.calls import Call, Way
from theria_lint.dynamic.worker.calling.graphs import graphs, is_graph
from theria_lint.dynamic.worker.calling.mixing import depending
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.signatures import (
    POSITIONAL,
    NoSuchChoiceError,
    by_position,
    choose_arguments,
    optional_parameters,
)
from theria_lint.dynamic.worker.calling.written import Symbols, source_of

Parameters = Mapping[str, inspect.Parameter]

COMBINATIONS = 60
"""How many combinations of numbers of axes are tried, the likeliest first."""

SECONDS = 5.0
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


def shaped_way(function: Callable[..., Any], parameters: Parameters, fixed: Mapping[str, Any]) -> Way:
    """The way to call a function whose required parameters are tensors of shapes that its text and complaints tell."""
    text = source_of(function)
    free = [name for name in required(parameters) if name not in fixed]
    facts = facts_in(text)
    shaped = [name for name in free if _holds_tensor(name, parameters[name], text, facts)]
    solver = _Solver(function, parameters, fixed, shaped, facts)
    rest = tuple(name for name in free if name not in shaped)
    return Way(solver.call, rest, optional_parameters(parameters, fixed))


def required(parameters: Parameters) -> list[str]:
    """The parameters that need a value."""
    kinds = (*POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
    return [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and p.kind in kinds]


@dataclass
class _Solver:
    """Finds the axes of a function's tensors, once for each choice of its other arguments and each dtype.

    ``found``: those that ran, by choice and dtype; and by sizes too what was raised where none did.
    """

    function: Callable[..., Any]
    parameters: Parameters
    fixed: Mapping[str, Any]
    shaped: list[str]
    facts: Mapping[str, Symbols]
    found: dict[Any, Plan | Exception] = field(default_factory=dict)

    def call(self, scene: Scene, choice: Mapping[str, int]) -> Call:
        """The call with tensors of the shapes that ran.

        Raises:
            Exception: what the function raised for the shapes with which it got furthest, if none ran.
        """
        if not self.shaped:
            raise TypeError("no parameter of it is known to take a tensor")
        key = (scene.dtype, tuple(choice.items()))
        plan = self.found.get(key) or self.found.get((*key, scene.shape)) or self._solve(scene, choice)
        self.found[(*key, scene.shape) if isinstance(plan, Exception) else key] = plan
        if isinstance(plan, Exception):
            raise plan
        return self._made(plan, scene, choice)

    def _solve(self, scene: Scene, choice: Mapping[str, int]) -> Plan | Exception:
        flat = any(map(is_graph, self.parameters))
        options = [axes_of(name, self.facts, flat=flat) for name in self.shaped]
        combinations = sorted(product(*(range(len(axes)) for axes in options)), key=sum)
        first: Exception | None = None
        deadline = time.monotonic() + SECONDS
        for indices in islice(combinations, COMBINATIONS):
            plan = {name: axes[i] for name, axes, i in zip(self.shaped, options, indices, strict=True)}
            outcome = self._settled(plan, scene, choice)
            if not isinstance(outcome, Exception):
                return outcome
            first = first or outcome
            if time.monotonic() > deadline:
                break
        assert first is not None
        return first

    def _settled(self, plan: Plan, scene: Scene, choice: Mapping[str, int]) -> Plan | Exception:
        """The plan with axes equated until the function runs, or what it raises when nothing more can be equated."""
        error = self._refusal(plan, scene, choice)
        while error is not None:
            plans = list(equated(plan, scene.shape, str(error)))
            outcomes = ((other, self._refusal(other, scene, choice)) for other in plans)
            better = next(((p, e) for p, e in outcomes if str(e) != str(error)), None)
            if better is None:
                return error
            plan, error = better
        return plan

    def _refusal(self, plan: Plan, scene: Scene, choice: Mapping[str, int]) -> Exception | None:
        """What the function raises for a plan, or says by an output that does not depend on its inputs."""
        try:
            made = self._made(plan, scene, choice)
            with isolated(scene.seed), torch.no_grad():
                depending(made.output, list(made.inputs.values()))
        except NoSuchChoiceError:
            raise
        except Exception as error:  # code that was not written for us
            return error
        return None

    def _made(self, plan: Plan, scene: Scene, choice: Mapping[str, int]) -> Call:
        sizes = sizes_for(plan, scene.shape)
        tensors = {n: _drawn(n, tuple(sizes[axis] for axis in axes), scene) for n, axes in plan.items()}
        nodes = next((size for axis, size in sizes.items() if axis.kind == TIME), scene.shape.queries)
        rest = {name: p for name, p in self.parameters.items() if name not in tensors}
        given = {n: _graph(n, nodes, scene, choice.get(n, 0)) for n in required(rest) if is_graph(n)}
        others = choose_arguments(rest, scene, CALL, choice, {**self.fixed, **given})

        def bound(*values: Tensor) -> Any:
            arguments = {**others, **dict(zip(tensors, values, strict=True))}
            named = {n: v for n, v in arguments.items() if self.parameters[n].kind is inspect.Parameter.KEYWORD_ONLY}
            return self.function(*by_position(self.parameters, arguments), **named)

        return Call(bound, tensors)


def _holds_tensor(name: str, parameter: inspect.Parameter, text: str, facts: Mapping[str, Symbols]) -> bool:
    """Whether a parameter holds a tensor whose shape is to be found: by its annotation or use, or for want of more."""
    annotation = str(parameter.annotation).lower()
    if is_graph(name) or _CONSTANT.search(name) or re.search(r"\b(int|bool|float|str|list|dict)\b", annotation):
        return False
    if "tensor" in annotation or name in facts or is_learned(name):
        return True
    if re.search(_USES.replace("{0}", re.escape(name)), text):
        return True
    return not is_known(name) and not _COUNTS.search(name)


def _drawn(name: str, shape: tuple[int, ...], scene: Scene) -> Tensor:
    """Random numbers; those of a projection keep what they multiply at its size."""
    tensor = scene.tensor(name, shape)
    if WEIGHTS.search(name) and tensor.dim() > 1:
        tensor = tensor / tensor.shape[-2] ** 0.5
    return tensor.mT.contiguous().mT if scene.strided and tensor.dim() > 1 else tensor


def _graph(name: str, nodes: int, scene: Scene, index: int) -> Tensor:
    found = graphs(name, nodes, scene.dtype, scene.device)
    if index >= len(found):
        raise NoSuchChoiceError
    return found[index]
