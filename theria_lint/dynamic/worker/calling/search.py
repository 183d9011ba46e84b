"""Attempts at calling a target: what came of each, and how far it got."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from theria.probes.derivatives import first_line
from theria.probes.point import call, copy_strided, isolated, trial
from theria.probes.precision import relative_error
from theria.probes.sweep import attention_references
from theria_lint.dynamic.worker import helps
from theria_lint.dynamic.worker.calling import packing
from theria_lint.dynamic.worker.calling.calls import BUILT, Call, Way
from theria_lint.dynamic.worker.calling.fitness import is_misfit
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.signatures import NoSuchChoiceError
from theria_lint.dynamic.worker.kernels.memory import Filled

_OURS = (str(Path(__file__).parents[3]), str(Path(trial.__code__.co_filename).parents[1]))

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
        before, stage = helps.launches(), 0
        try:
            made = way(scene)
            stage = 1
            output = trial(made.output, made.inputs, scene.seed)
            kernels = helps.launches() > before
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
    moved = {name: packing.moved(tensor, scene) for name, tensor in made.inputs.items()}
    if not packing.respects_borders(output, trial(made.output, moved, scene.seed), scene):
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
