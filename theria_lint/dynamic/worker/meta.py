"""What a target's second derivatives are worth to MAML: the meta-gradient through a tiny model that holds it."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

from torch import Tensor

from theria.maml import TaskShape, maml_probe
from theria.probes.layouts import LAYOUTS, from_bhtd, to_bhtd
from theria.probes.point import trial
from theria.probes.sweep import Shape
from theria_lint.dynamic.worker.calling.binding import Binding
from theria_lint.dynamic.worker.calling.calls import Call
from theria_lint.dynamic.worker.calling.scene import Scene

SLOWEST = 0.01
"""Seconds a forward may take: the probe calls it some two hundred times, which interpreted kernels cannot afford."""


def maml_of(binding: Binding) -> dict[str, Any] | None:
    """The MAML measurements of a target whose forward is softmax attention; None for others and for slow ones."""
    if not binding.agrees or binding.scene.layout not in LAYOUTS or _forward_time(binding) > SLOWEST:
        return None
    shape = binding.scene.shape
    length = shape.queries if shape.queries == shape.keys else TaskShape().length
    report = maml_probe(
        _Attention(binding),
        steps=1,
        dtype=binding.scene.dtype,
        device=binding.scene.device,
        shape=replace(TaskShape(), length=length),
        head_dim=shape.dim,
    )
    return report.to_dict()


def _forward_time(binding: Binding) -> float:
    """Seconds; the shorter of two calls that are slow, for another process may have had the processor meanwhile."""
    made = binding.call()
    times: list[float] = []
    while len(times) < 2 and min(times, default=math.inf) > SLOWEST:
        start = time.perf_counter()
        trial(made.output, made.inputs, binding.scene.seed)
        times.append(time.perf_counter() - start)
    return min(times)


class _Attention:
    """The target as attention of q, k, v in (B,H,T,D), whatever its own layout and other arguments are."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._calls: dict[tuple[int, ...], Call] = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        layout = self._binding.scene.layout
        made = self._made((*q.shape, k.shape[-2], v.shape[-1]))
        return to_bhtd(made.output(*(from_bhtd(t, layout) for t in (q, k, v))), layout)

    def _made(self, sizes: tuple[int, ...]) -> Call:
        """The call for tensors of these sizes: its other arguments may depend on them."""
        if sizes not in self._calls:
            batch, heads, queries, dim, keys, value_dim = sizes
            shape = Shape(batch, heads, queries, keys, dim, value_dim)
            scene: Scene = replace(self._binding.scene, shape=shape)
            self._calls[sizes] = self._binding.call(scene)
        return self._calls[sizes]
