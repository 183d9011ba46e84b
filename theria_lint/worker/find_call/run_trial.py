"""Attempts at calling a target: what came of each, and how far it got."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from theria.probes.derivatives import first_line
from theria.probes.point import call, copy_strided, isolated, trial
from theria.probes.report import Report
from theria.probes.rounding import relative_error
from theria.probes.sweep import attention_references
from theria.verdicts import Verdict
from theria_lint.worker.find_call import varlen
from theria_lint.worker.find_call.call_strategy import BUILT, Call, Way, select
from theria_lint.worker.find_call.signatures import NoSuchChoiceError
from theria_lint.worker.find_call.trial_spec import Scene
from theria_lint.worker.shims import shim_log
from theria_lint.worker.triton_interpreter.bounds import Filled

_MISFIT = "returned an invalid gradient at index"
"""How PyTorch complains of a gradient that has another shape than its input."""

_OF_KERNELS = ("InterpreterError", "OutsideError", "CompilationError")

MISFIT = (
    "its backward gives gradients of other shapes than the inputs that were made up for it; "
    "name its arguments in the configuration"
)

NO_REFERENCE = (
    "the configuration wants the reference as its oracle, and its forward is not softmax attention as it was called"
)


def is_misfit(error: Exception) -> bool:
    """Whether a backward that raised says that its forward had the wrong arguments, more likely than anything else."""
    return _MISFIT in str(error) or type(error).__name__ in _OF_KERNELS


def weighed(report: Report, oracle: str | None) -> Report:
    """The report, inconclusive where made-up arguments explain it as well as the target does.

    Nor does a measurement count by another oracle than the ``oracle`` that the configuration wants, if it wants one.
    """
    if report.verdict.unsafe and _MISFIT in report.reason:
        return replace(report, verdict=Verdict.INCONCLUSIVE, reason=MISFIT)
    if oracle == "reference" and report.oracle not in ("", oracle):
        return replace(report, verdict=Verdict.INCONCLUSIVE, reason=NO_REFERENCE)
    return report


_OURS = (str(Path(__file__).parents[2]), str(Path(trial.__code__.co_filename).parents[1]))

_STABLE = 1e-3
"""The relative difference between two calls of an interpreted kernel from which it reads what nobody wrote."""

_NUMBERS = (0.7, -3.0)
"""What new memory is filled with for each of the two."""


class CannotCallError(Exception):
    """No way to call the target worked; the message is what stopped the attempt that got furthest.

    ``guessed``: the parameters that it was given a made-up value for.
    """

    def __init__(self, message: str, guessed: Iterable[str] = ()) -> None:
        """Keeps the message as it is."""
        super().__init__(message)
        self.guessed = tuple(guessed)


class PartError(CannotCallError):
    """The target runs outside the graph wherever it is called: the other half of its work is an opaque backward."""

    def __init__(self) -> None:
        """Says what the target is, after "no way to call it worked"."""
        super().__init__("its package runs it outside the graph only, inside the forward of an autograd.Function")


class GarbageError(ValueError):
    """The target ran, and what it returned says nothing: the arguments that were made up do not fit it."""


GARBAGE = 2
"""How far an attempt got that returned numbers which say nothing."""


@dataclass(frozen=True)
class Binding:
    """A way to call a target, and a scene in which it worked. ``agrees``: its forward is softmax attention."""

    way: Way
    scene: Scene
    agrees: bool

    def call(self, scene: Scene | None = None) -> Call:
        """The call, in the scene that worked or in another."""
        return self.way(scene or self.scene)


@dataclass(frozen=True)
class Refusal:
    """An attempt that raised: what, and how far it had come.

    ``progress`` holds 0 if it was raised while the call was made (a module was built), 1 in the forward, `GARBAGE` if
    that is what came out of it, 3 in the backward; and then the instruction at which each frame stood, from the
    outermost inwards: later instructions of the same code are further.
    """

    way: Way
    scene: Scene
    reason: str
    progress: tuple[int, ...]

    def rank(self) -> tuple[tuple[int, ...], bool]:
        """Sorts refusals by how far they got, and those with as many keys as queries after the others."""
        return self.progress, self.scene.shape.queries == self.scene.shape.keys


@dataclass
class Search:
    """The attempts so far. ``interpreted``: Triton's interpreter ran a kernel of the target."""

    deadline: float
    refusals: list[Refusal] = field(default_factory=list)
    interpreted: bool = False

    def furthest(self) -> list[Refusal]:
        """The refusals, those that got furthest first; among equals those with as many keys as queries first."""
        return sorted(self.refusals, key=Refusal.rank, reverse=True)

    def attempt(self, way: Way, scene: Scene) -> Binding | None:
        """One forward and one backward; None where it raised. Code that was not written for us raises anything.

        A backward that fails for autograd's reasons is what the probe is there to tell, and no obstacle.

        Raises:
            CannotCallError: if there is no time left.
            MemoryError: if there is no memory left.
        """
        if time.monotonic() > self.deadline:
            raise self.refusal("trying to call it took too long")
        before, stage = shim_log.launches(), 0
        try:
            made = way(scene)
            stage = 1
            output = trial(made.output, made.inputs, scene.seed)
            kernels = shim_log.launches() > before
            stage = GARBAGE
            _refuse_garbage(made, output, scene.seed, kernels)
            _refuse_ignored_borders(made, output, scene)
            stage = 3
            _refuse_misfit(made, scene.seed, kernels)
        except (MemoryError, CannotCallError):
            raise
        except NoSuchChoiceError:
            return None
        except Exception as error:
            if "can't allocate memory" in str(error):
                raise MemoryError from error
            stage = GARBAGE if isinstance(error, GarbageError) else stage
            self.refusals.append(Refusal(way, scene, _describe(error), (stage, *_instructions(error))))
            return None
        self.interpreted = self.interpreted or kernels
        return Binding(way, scene, _agrees(made, output))

    def refusal(self, otherwise: str) -> CannotCallError:
        """What to raise where nothing worked."""
        way = self.furthest()[0].way if self.refusals else None
        guessed = () if way is None else way.free if way.unsure is None else way.unsure
        return CannotCallError(self.summary(otherwise), [name for name in guessed if not name.startswith(BUILT)])

    def summary(self, otherwise: str) -> str:
        """What stopped the attempt that got furthest."""
        return self.furthest()[0].reason if self.refusals else otherwise


def first_order(made: Call, seed: int) -> Mapping[str, Tensor | None]:
    """The gradients of a random combination of a call's outputs, by input; None where autograd says unused.

    Raises:
        Exception: whatever the forward or the backward raises.
    """
    leaves = {name: copy_strided(tensor).requires_grad_() for name, tensor in made.inputs.items()}
    output = call(made.output, leaves, seed)
    if not output.requires_grad:
        return dict.fromkeys(leaves)
    with isolated(seed):
        loss = (torch.randn_like(output) * output).sum()
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return dict(zip(leaves, found, strict=True))


def in_graph(made: Call, seed: int) -> bool:
    """Whether the output requires grad if every input does."""
    leaves = {name: copy_strided(tensor).requires_grad_() for name, tensor in made.inputs.items()}
    return call(made.output, leaves, seed).requires_grad


def raised_by_autograd(error: Exception) -> bool:
    """Whether autograd itself refused a differentiation, and not code of the target in a backward of its own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("torch.autograd")


def _refuse_garbage(made: Call, output: Tensor, seed: int, kernels: bool) -> None:
    if not bool(torch.isfinite(output).all()):
        raise GarbageError("its forward returns numbers that are not finite for the arguments that were made up for it")
    if not kernels:
        return
    outputs = []
    for number in _NUMBERS:
        with Filled(number):
            outputs.append(trial(made.output, made.inputs, seed))
    if outputs[0].shape != outputs[1].shape or not relative_error(outputs[0], outputs[1]) < _STABLE:
        raise GarbageError("its kernels return memory that they have not written for the arguments made up for it")


def _refuse_ignored_borders(made: Call, output: Tensor, scene: Scene) -> None:
    if not scene.packed:
        return
    moved = {name: varlen.moved(tensor, scene) for name, tensor in made.inputs.items()}
    if not varlen.respects_borders(output, trial(made.output, moved, scene.seed), scene):
        raise GarbageError("its output does not keep apart the sequences whose ends were made up for it")


def _refuse_misfit(made: Call, seed: int, kernels: bool) -> None:
    try:
        gradients = first_order(made, seed)
    except Exception as error:
        if is_misfit(error):
            raise
        return
    if kernels and not all(bool(torch.isfinite(g).all()) for g in gradients.values() if g is not None):
        raise GarbageError("its backward returns numbers that are not finite for the arguments made up for it")


def _agrees(made: Call, output: Tensor) -> bool:
    if made.layout is None or tuple(output.shape) != made.expected or set(made.inputs) != {"q", "k", "v"}:
        return False
    inputs = {name: tensor.to(torch.float64) for name, tensor in made.inputs.items()}
    return any(
        relative_error(output, reference.function(**inputs)) < 3e-2 for reference in attention_references(made.layout)
    )


def _instructions(error: BaseException) -> list[int]:
    """The instruction of each frame below ours at which an exception was raised."""
    found, trace = [], error.__traceback__
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_OURS):
            found.append(trace.tb_lasti)
        trace = trace.tb_next
    return found


def _describe(error: Exception) -> str:
    said = first_line(error)[:240]
    return said if isinstance(error, GarbageError) else f"{type(error).__name__}: {said}"


def depending(function: Callable[..., Any], values: Sequence[Tensor]) -> Any:
    """What the function returns for some tensors, once it is known to depend on them.

    Raises:
        GarbageError: if it does not.
    """
    moved = [value + torch.linspace(0, 1, value.numel()).view(value.shape).to(value) for value in values]
    if torch.equal(_beside(function, values, values[0]), _beside(function, moved, values[0])):
        raise GarbageError("its output does not depend on its inputs as it was called")
    return function(*values)


def attending(function: Callable[[Tensor], Any], x: Tensor, features: int) -> Any:
    """What the function returns for ``x``, once it is known that something attends.

    Some positions are moved, in several patterns, and the output has to change at another: an attention that is
    switched off leaves the layers around it, which say nothing of it. An output of another shape has positions of its
    own and tells nothing.

    Args:
        function: a module as a function of ``x`` alone, with the random numbers of the present state.
        x: its input, features along one axis, positions along the others.
        features: that axis.

    Raises:
        GarbageError: if the output changes nowhere but where ``x`` does.
    """
    output = _beside(function, [x], x)
    if _positions(output, features) != _positions(x, features):
        return function(x)
    for moved in _patterns(x, features):
        changed = (_beside(function, [torch.where(moved, x + 1.0, x)], x) != output).any(dim=features)
        if bool((changed & ~moved.select(features, 0)).any()):
            return function(x)
    raise GarbageError("no position of its output depends on another position of its input as it was called")


def _beside(function: Callable[..., Any], values: Sequence[Tensor], like: Tensor) -> Tensor:
    """The output for some tensors alone, with the random numbers of the present state kept.

    The call that counts comes after all of these: a module may write into what an earlier call has saved, its cache.
    """
    leaves = [value.detach().clone().requires_grad_(value.requires_grad) for value in values]
    with torch.random.fork_rng([]):
        return select(function(*leaves), like.shape, leaves).detach()


def _positions(tensor: Tensor, features: int) -> list[int]:
    shape = list(tensor.shape)
    if -len(shape) <= features < len(shape):
        del shape[features]
    return shape


def _patterns(x: Tensor, features: int) -> Iterator[Tensor]:
    """Positions of the first sequence, as masks of ``x``'s shape: along each axis either half, then every other one.

    Between halves everything attends but windows, between neighbours everything but what is dilated.
    """
    first, *others = [axis for axis in range(x.dim()) if axis != features % x.dim()]
    for axis in others or [first]:
        length = x.shape[axis]
        for chosen in (slice(0, length // 2), slice(length // 2, None), slice(0, None, 2), slice(1, None, 2)):
            moved = torch.zeros_like(x, dtype=torch.bool)
            sequence = moved.narrow(first, 0, 1) if others else moved
            sequence.movedim(axis, 0)[chosen] = True
            yield moved
