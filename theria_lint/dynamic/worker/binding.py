"""Finds by running how a target wants to be called: the layout, the sizes, the dtype."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from theria.probes.point import trial
from theria.probes.precision import relative_error
from theria.probes.sweep import ODD, ROUND, Shape, attention_references
from theria_lint.dynamic.worker import helps
from theria_lint.dynamic.worker.base import base_attention
from theria_lint.dynamic.worker.calls import Call, Way
from theria_lint.dynamic.worker.scene import Scene
from theria_lint.dynamic.worker.signatures import NoSuchChoiceError
from theria_lint.dynamic.worker.ways import layouts, ways
from theria_lint.model import TargetKind

SIZES: tuple[Shape, ...] = (
    ODD,
    replace(ODD, keys=ODD.queries),
    replace(ODD, queries=8, keys=8, dim=8, value_dim=8),
    ROUND,
    Shape(1, 2, 64, 64, 16, 16),
    Shape(1, 2, 64, 64, 64, 64),
    Shape(1, 1, 128, 128, 64, 64),
)
"""Sizes to try, from the most telling to the most accommodating."""

KERNEL_SIZES = (Shape(1, 2, 6, 6, 8, 8), *SIZES[1:])
"""Sizes for kernels: as many keys as queries, for few check the lengths, and past the end of a tensor they read, and
write, what is not theirs; and few programs, for interpreting one takes milliseconds."""

PRECISE = (torch.float64, torch.float32)
HALF = (torch.bfloat16, torch.float16)

LONG = 0.05
"""Seconds a call from which smaller sizes are chosen where a constructor lets them be."""

STARTS = 4
"""From how many of the attempts that got furthest other arguments are tried."""

_OURS = (str(Path(__file__).parents[2]), str(Path(trial.__code__.co_filename).parents[1]))


_TIME, _HEADS = r"(?:T|L|S|N|M|seqlen\w*|seq_?len\w*|time|seq|length)", r"(?:HV?|HQ|nheads\w*|num_heads|heads?)"
_TIME_FIRST = re.compile(rf"\b(?:B|batch\w*|bs?)\b[ ,x]+{_TIME}\b[ ,x]+{_HEADS}\b", re.IGNORECASE)
_HEADS_FIRST = re.compile(rf"\b(?:B|batch\w*|bs?)\b[ ,x]+{_HEADS}\b[ ,x]+{_TIME}\b", re.IGNORECASE)


class CannotCallError(Exception):
    """No way to call the target worked; the message is what stopped the attempt that got furthest."""


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

    ``progress`` holds 0 if it was raised while the call was made (a module was built) and 1 if later, and then the
    lines at which the frames stood, from the outermost inwards: later lines of the same code are further.
    """

    way: Way
    scene: Scene
    reason: str
    progress: tuple[int, ...]

    def rank(self) -> tuple[tuple[int, ...], bool]:
        """Sorts refusals by how far they got, and those with as many keys as queries after the others."""
        return self.progress, self.scene.shape.queries == self.scene.shape.keys


@dataclass
class _Search:
    """The attempts so far. ``interpreted``: Triton's interpreter ran a kernel of the target."""

    deadline: float
    refusals: list[Refusal] = field(default_factory=list)
    interpreted: bool = False

    def furthest(self) -> list[Refusal]:
        """The refusals, those that got furthest first; among equals those with as many keys as queries first."""
        return sorted(self.refusals, key=Refusal.rank, reverse=True)

    def attempt(self, way: Way, scene: Scene) -> Binding | None:
        """One forward; None where it raised. Code that was not written for us raises anything."""
        if time.monotonic() > self.deadline:
            raise CannotCallError(self.summary("trying to call it took too long"))
        before, stage = helps.launches(), 0
        try:
            made = way(scene)
            stage = 1
            output = trial(made.output, made.inputs, scene.seed)
        except (MemoryError, NoSuchChoiceError) as error:
            if isinstance(error, MemoryError):
                raise
            return None
        except Exception as error:
            if "can't allocate memory" in str(error):
                raise MemoryError from error
            self.refusals.append(Refusal(way, scene, _describe(error), (stage, *_lines(error))))
            return None
        self.interpreted = self.interpreted or helps.launches() > before
        return Binding(way, scene, _agrees(made, output))

    def summary(self, otherwise: str) -> str:
        """What stopped the attempt that got furthest."""
        return self.furthest()[0].reason if self.refusals else otherwise


def bind(target: Any, kind: TargetKind, device: str, hints: Mapping[str, Any], budget: float) -> Binding:
    """Tries ways, layouts, sizes and dtypes until one runs; among layouts, agreement with the reference decides.

    Where none runs with the likeliest arguments, other arguments are tried one after the other, each from the attempt
    that got furthest.

    Args:
        target: the function, class or wrapper.
        kind: what it is.
        device: where the inputs live.
        hints: ``layout``, ``dtype`` and ``kwargs`` from the user's configuration.
        budget: seconds after which nothing more is tried.

    Raises:
        CannotCallError: if nothing ran.
    """
    search = _Search(time.monotonic() + budget)
    known = list(ways(target, kind, hints.get("kwargs", {})))
    sizes = KERNEL_SIZES if helps.holds_kernels(getattr(target, "__module__", None) or "") else SIZES
    for dtypes in [(getattr(torch, hints["dtype"]),)] if "dtype" in hints else [PRECISE, HALF]:
        binding = _plainly(search, known, _scenes(_layouts(target, kind, hints), device, dtypes, sizes)) or _climbing(
            search
        )
        if binding is not None:
            binding = _smaller(search, binding)
            return _tamed(search, binding, hints) if search.interpreted else binding
    raise CannotCallError(search.summary("nothing to try"))


def _tamed(search: _Search, binding: Binding, hints: Mapping[str, Any]) -> Binding:
    """The scene in which an interpreted kernel means what it says.

    In float64 the interpreter computes garbage where a compiler would refuse; few kernels are written for it, and a
    forward that is right says nothing of the backward.
    """
    scene = binding.scene
    dtype = torch.float32 if scene.dtype is torch.float64 and "dtype" not in hints else scene.dtype
    return search.attempt(binding.way, replace(scene, dtype=dtype)) or binding


def _smaller(search: _Search, binding: Binding) -> Binding:
    """The same call with smaller defaults, where one takes long: finite differences make hundreds."""
    began = time.monotonic()
    search.attempt(binding.way, binding.scene)
    took = time.monotonic() - began
    if took < LONG:
        return binding
    return search.attempt(binding.way, replace(binding.scene, small=True)) or binding


def _scenes(
    names: Sequence[str], device: str, dtypes: Iterable[torch.dtype], sizes: Iterable[Shape]
) -> Iterator[list[Scene]]:
    """Groups of scenes that differ in layout alone."""
    base = base_attention("reference")
    for dtype in dtypes:
        for shape in sizes:
            yield [Scene(shape, name, dtype, device, base) for name in names]


def _layouts(target: Any, kind: TargetKind, hints: Mapping[str, Any]) -> Sequence[str]:
    """The layouts to try: the configured one, or all, the one that the source speaks of first."""
    if "layout" in hints:
        return [hints["layout"].lower()]
    names = list(layouts(kind))
    if kind is not TargetKind.MODULE and _speaks_of_time_first(target):
        names.sort(key=lambda name: name != "bthd")
    return names


def _speaks_of_time_first(target: Any) -> bool:
    """Whether the source of a function writes shapes as (B, T, H, D) and not as (B, H, T, D)."""
    try:
        source = inspect.getsource(target)
    except (OSError, TypeError):
        return False
    return len(_TIME_FIRST.findall(source)) > len(_HEADS_FIRST.findall(source))


def _plainly(search: _Search, known: list[Way], groups: Iterable[list[Scene]]) -> Binding | None:
    """Each way with its likeliest arguments, in each scene."""
    for scenes in groups:
        for way in known:
            found: Binding | None = None
            for scene in scenes:
                binding = search.attempt(way, scene)
                if binding is not None and binding.agrees:
                    return binding
                found = found or binding
            if found is not None:
                return found
    return None


def _climbing(search: _Search) -> Binding | None:
    """Other arguments, one at a time, as long as each change gets further than the last."""
    starts: dict[str, Refusal] = {}
    for refusal in search.furthest():
        starts.setdefault(refusal.scene.layout, refusal)
    for start in [*starts.values()][:STARTS]:
        best: Refusal | None = start
        while best is not None:
            found, best = _step(search, best)
            if found is not None:
                return found
    return None


def _step(search: _Search, best: Refusal) -> tuple[Binding | None, Refusal | None]:
    """The first change that runs, or else the one that gets furthest, if that is further than before."""
    further: Refusal | None = None
    scenes = [replace(best.scene, shape=shape) for shape in SIZES[1:] if shape != best.scene.shape]
    changes = [(way, best.scene) for way in best.way.others(best.reason)]
    for way, scene in changes + [(best.way, scene) for scene in scenes if best.way.choice]:
        count = len(search.refusals)
        binding = search.attempt(way, scene)
        if binding is not None:
            return binding, None
        for refusal in search.refusals[count:]:
            if refusal.progress > (further or best).progress:
                further = refusal
    return None, further


def _agrees(made: Call, output: torch.Tensor) -> bool:
    if made.layout is None or tuple(output.shape) != made.expected or set(made.inputs) != {"q", "k", "v"}:
        return False
    inputs = {name: tensor.to(torch.float64) for name, tensor in made.inputs.items()}
    return any(
        relative_error(output, reference.function(**inputs)) < 3e-2 for reference in attention_references(made.layout)
    )


def _lines(error: BaseException) -> list[int]:
    """The line of each frame below ours at which an exception was raised."""
    lines, trace = [], error.__traceback__
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_OURS):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines


def _describe(error: Exception) -> str:
    text = str(error).strip()
    first = text.splitlines()[0][:240] if text else "no message"
    return f"{type(error).__name__}: {first}"
