"""Looks for a point at which a target's first gradient is wrong: routing and rounding hide theirs at most points."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import torch

from theria.probes.point import call, draw, isolated
from theria_lint.dynamic.worker.calling.calls import Call
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.search import Binding

POINTS = 6
"""How many points are looked at: each costs a backward and a few forwards."""

_STEPS = (1e-4, 1e-5)
_CONTRADICTION = 1e-2
"""The relative difference between a gradient and every difference of the forward at which a closer look is due."""


def telling_point(binding: Binding, scene: Scene) -> Scene:
    """The scene at the first of some points where differences of the forward contradict the gradient; else as it is.

    That is no verdict: the point is measured like any other.
    """
    for number in range(POINTS if scene.dtype is torch.float64 else 0):
        moved = replace(scene, seed=scene.seed + number)
        with suppress(Exception):  # the target refuses the scene: the probe says so
            if _contradicted(binding.call(moved), moved.seed):
                return moved
    return scene


def _contradicted(made: Call, seed: int) -> bool:
    generator = torch.Generator().manual_seed(seed)
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in made.inputs.items()}
    directions = {name: draw(tuple(t.shape), generator).to(t) for name, t in leaves.items()}
    output = call(made.output, leaves, seed)
    cotangent = draw(tuple(output.shape), generator).to(output)
    with isolated(seed):
        found = torch.autograd.grad((cotangent * output).sum(), list(leaves.values()), allow_unused=True)
    gradients = {name: g for name, g in zip(leaves, found, strict=True) if g is not None}
    slope = sum(float((g * directions[name]).sum()) for name, g in gradients.items())
    size = max(abs(slope), max((float(g.norm()) for g in gradients.values()), default=0.0))

    def loss(step: float) -> float:
        moved = {name: (leaf.detach() + step * directions[name]).requires_grad_() for name, leaf in leaves.items()}
        return float((cotangent * call(made.output, moved, seed)).sum().detach())

    return all(abs((loss(h) - loss(-h)) / (2 * h) - slope) > _CONTRADICTION * size for h in _STEPS)
