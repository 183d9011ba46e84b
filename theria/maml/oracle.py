"""Where the true meta-gradient comes from: float64 reference attention, or differences of the attention's own loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from theria.maml.classifier import AttentionClassifier
from theria.maml.loop import InnerLoop, Mode, Parameters, outer_loss
from theria.maml.tasks import Task
from theria.probes.point import draw

STEP = 1e-4
"""Half width of the central differences: with the five-point formula, truncation (STEP⁴) and float64 rounding
(1e-16 / STEP) are both below 1e-11 of a loss of order one."""


def directional_derivative(
    model: AttentionClassifier,
    theta: Mapping[str, Tensor],
    task: Task,
    direction: Mapping[str, Tensor],
    loop: InnerLoop,
) -> float:
    """The derivative of the post-adaptation loss along a direction, without any second derivative.

    Five-point central differences of the whole unrolled loop, so the only thing it trusts is the attention's forward
    and first derivative. Meaningful in float64 alone.
    """

    def loss_at(offset: float) -> float:
        moved = {name: (value + offset * direction[name]).requires_grad_() for name, value in theta.items()}
        return outer_loss(model, moved, task, loop, Mode.FO_STRICT).item()

    inner = loss_at(STEP) - loss_at(-STEP)
    outer = loss_at(2 * STEP) - loss_at(-2 * STEP)
    return (8 * inner - outer) / (12 * STEP)


def finite_difference_error(
    gradient: Mapping[str, Tensor],
    model: AttentionClassifier,
    theta: Mapping[str, Tensor],
    task: Task,
    loop: InnerLoop,
    generator: torch.Generator,
    directions: int = 3,
) -> float:
    """Relative error of a meta-gradient, seen along random directions of the parameters.

    The root of Σ(⟨g, d⟩ − ∂_d)² / Σ ∂_d², over ``directions`` standard normal directions d.
    """
    wrong = true = 0.0
    for _ in range(directions):
        direction: Parameters = {n: draw(tuple(p.shape), generator).to(p.device, p.dtype) for n, p in theta.items()}
        expected = directional_derivative(model, theta, task, direction, loop)
        measured = sum((gradient[name] * direction[name]).sum().item() for name in theta)
        wrong += (measured - expected) ** 2
        true += expected**2
    return (wrong / true) ** 0.5 if true else float("inf") if wrong else 0.0
