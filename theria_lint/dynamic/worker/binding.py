"""Finds by running how a target wants to be called: the layout, the sizes, the dtype."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from theria.probes.point import call
from theria.probes.precision import relative_error
from theria.probes.sweep import ODD, ROUND, Shape, attention_references
from theria_lint.dynamic.worker.base import base_attention
from theria_lint.dynamic.worker.calls import Call, Way, layouts, ways
from theria_lint.dynamic.worker.scene import Scene
from theria_lint.model import TargetKind

SIZES: tuple[Shape, ...] = (
    ODD,
    replace(ODD, keys=ODD.queries),
    replace(ODD, queries=8, keys=8, dim=8, value_dim=8),
    ROUND,
    Shape(1, 2, 64, 64, 64, 64),
)
"""Sizes to try, from the most telling to the most accommodating."""

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class CannotCallError(Exception):
    """No way to call the target worked; the message is the reason that most attempts gave."""


@dataclass(frozen=True)
class Binding:
    """A way to call a target, and a scene in which it worked. ``agrees``: its forward is softmax attention."""

    way: Way
    scene: Scene
    agrees: bool

    def call(self, scene: Scene | None = None) -> Call:
        """The call, in the scene that worked or in another."""
        return self.way(scene or self.scene)


def bind(target: Any, kind: TargetKind, device: str, hints: Mapping[str, Any], budget: float) -> Binding:
    """Tries ways, layouts, sizes and dtypes until one runs; among layouts, agreement with the reference decides.

    Args:
        target: the function, class or wrapper.
        kind: what it is.
        device: where the inputs live.
        hints: ``layout``, ``dtype`` and ``kwargs`` from the user's configuration.
        budget: seconds after which nothing more is tried.

    Raises:
        CannotCallError: if nothing ran.
    """
    deadline = time.monotonic() + budget
    refusals: Counter[str] = Counter()
    known = list(ways(target, kind, hints.get("kwargs", {})))
    for scenes in _scenes(kind, device, hints):
        for way in known:
            found: Binding | None = None
            for scene in scenes:
                if time.monotonic() > deadline:
                    raise CannotCallError(_summary(refusals, "trying to call it took too long"))
                binding = _try(way, scene, refusals)
                if binding is not None and binding.agrees:
                    return binding
                found = found or binding
            if found is not None:
                return found
    raise CannotCallError(_summary(refusals, "nothing to try"))


def _scenes(kind: TargetKind, device: str, hints: Mapping[str, Any]) -> Iterator[list[Scene]]:
    """Groups of scenes that differ in layout alone."""
    dtypes = [getattr(torch, hints["dtype"])] if "dtype" in hints else DTYPES
    names = [hints["layout"].lower()] if "layout" in hints else layouts(kind)
    base = base_attention("reference")
    for dtype in dtypes:
        for shape in SIZES:
            yield [Scene(shape, name, dtype, device, base) for name in names]


def _try(way: Way, scene: Scene, refusals: Counter[str]) -> Binding | None:
    """Runs one forward. Whatever it raises is a refusal: code that was not written for us raises anything."""
    try:
        made = way(scene)
        output = call(made.output, made.inputs, scene.seed)
    except MemoryError:
        raise
    except Exception as error:
        if "can't allocate memory" in str(error):
            raise MemoryError from error
        refusals[_describe(error)] += 1
        return None
    if made.layout is None:
        return Binding(way, scene, agrees=False)
    return Binding(way, scene, _agrees(made, output))


def _agrees(made: Call, output: torch.Tensor) -> bool:
    if made.layout is None or tuple(output.shape) != made.expected or set(made.inputs) != {"q", "k", "v"}:
        return False
    inputs = {name: tensor.to(torch.float64) for name, tensor in made.inputs.items()}
    return any(
        relative_error(output, reference.function(**inputs)) < 3e-2 for reference in attention_references(made.layout)
    )


def _describe(error: Exception) -> str:
    text = str(error).strip()
    first = text.splitlines()[0][:240] if text else "no message"
    return f"{type(error).__name__}: {first}"


def _summary(refusals: Counter[str], otherwise: str) -> str:
    return refusals.most_common(1)[0][0] if refusals else otherwise
