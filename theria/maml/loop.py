"""The inner loop, unrolled, and the meta-gradient in three modes.

MAML (Finn, Abbeel, Levine 2017, equation 1): φ₀ = θ, φ_{i+1} = φ_i − α ∇L_support(φ_i), and the meta-gradient is the
gradient of L_query(φ_n) with respect to θ. By the chain rule it is ∏ (I − α ∇²L_support(φ_i)) ∇L_query(φ_n): the
Hessians in it are where an attention needs its double backward.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from theria.maml.classifier import AttentionClassifier
from theria.maml.meta_gradient_errors import OnceDifferentiableError, UnusedParameterError
from theria.maml.tasks import Task
from theria.probes.derivatives import holds_error_node
from theria.probes.point import draw

Parameters = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class InnerLoop:
    """How a task is adapted to: ``steps`` of gradient descent with learning rate ``lr``."""

    steps: int
    lr: float


class Mode(StrEnum):
    """How the outer gradient treats the inner loop.

    ``FULL``: the inner gradients are part of the graph (``create_graph=True``); the meta-gradient is exact.

    ``FO``: the inner gradients are constants; the graph still runs from φ_n back to θ through the updates
    φ_{i+1} = φ_i − α·constant, each with derivative I. The numbers of the forward pass are those of FULL.

    ``FO_STRICT``: the inner loop runs outside the graph and the meta-gradient is ∇L_query taken at the adapted
    parameters themselves (the first-order MAML of Finn et al., section 5.2). For plain gradient descent it equals FO;
    it cannot reach θ by any path, so a difference between the two means that something else than the update
    connects θ to the adapted model.
    """

    FULL = "FULL"
    FO = "FO"
    FO_STRICT = "FO_STRICT"


def adapt(
    model: AttentionClassifier, theta: Mapping[str, Tensor], task: Task, loop: InnerLoop, mode: Mode
) -> Parameters:
    """The adapted parameters φ_n after gradient descent on the support loss.

    Raises:
        UnusedParameterError: the support loss depends on some parameter that autograd does not reach.
        OnceDifferentiableError: mode is FULL and an inner gradient cannot be differentiated again.
    """
    phi = dict(theta)
    for _ in range(loop.steps):
        if mode is Mode.FO_STRICT:
            phi = as_leaves(phi)
        gradients = _inner_gradients(_Loss(model, task.support_x, task.support_y), phi, mode)
        phi = {name: value - loop.lr * gradients[name] for name, value in phi.items()}
    return as_leaves(phi) if mode is Mode.FO_STRICT else phi


def outer_loss(
    model: AttentionClassifier, theta: Mapping[str, Tensor], task: Task, loop: InnerLoop, mode: Mode
) -> Tensor:
    """The query loss at the adapted parameters, a scalar: post-adaptation loss as a function of θ."""
    return _Loss(model, task.query_x, task.query_y)(adapt(model, theta, task, loop, mode))


def meta_gradient(
    model: AttentionClassifier, theta: Mapping[str, Tensor], task: Task, loop: InnerLoop, mode: Mode
) -> Parameters:
    """The gradient of the post-adaptation loss in the given mode, detached, by parameter name.

    Raises:
        UnusedParameterError, OnceDifferentiableError: as ``adapt``; also where only the query loss shows it.
    """
    leaves = as_leaves(theta)
    phi = adapt(model, leaves, task, loop, mode)
    loss = _Loss(model, task.query_x, task.query_y)
    return _gradients(loss, phi, phi if mode is Mode.FO_STRICT else leaves, create_graph=False)


def as_leaves(parameters: Mapping[str, Tensor]) -> Parameters:
    """The same values as fresh leaves of a graph of their own."""
    return {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}


def flatten(parameters: Mapping[str, Tensor], names: Iterable[str] | None = None) -> Tensor:
    """Some parameters, or all, as one float64 vector on the CPU."""
    return torch.cat([parameters[name].detach().to("cpu", torch.float64).flatten() for name in names or parameters])


class _Loss(NamedTuple):
    """The mean cross entropy of the model on some sequences, as a function of its parameters."""

    model: AttentionClassifier
    x: Tensor
    y: Tensor

    def __call__(self, parameters: Parameters) -> Tensor:
        return cross_entropy(functional_call(self.model, parameters, (self.x,)), self.y)

    def depends_on(self, name: str, parameters: Parameters) -> bool:
        """Whether the loss changes with a parameter, asked of the forward alone."""
        parameter = parameters[name].detach()
        step = draw(tuple(parameter.shape), torch.Generator().manual_seed(0)).to(parameter)
        with torch.no_grad():
            here, there = self(parameters), self({**parameters, name: parameter + 0.1 * step})
        return bool((there - here).abs() > 64 * torch.finfo(here.dtype).eps * here.abs())


def _inner_gradients(loss: _Loss, phi: Parameters, mode: Mode) -> Parameters:
    gradients = _gradients(loss, phi, phi, create_graph=mode is Mode.FULL)
    if mode is Mode.FULL and holds_error_node(gradients.values()):
        # autograd.grad would prune the node that raises and return a meta-gradient without this term.
        raise OnceDifferentiableError(
            "the attention's backward is marked @once_differentiable: the inner gradient cannot be differentiated again"
        )
    return gradients


def _gradients(loss: _Loss, phi: Parameters, variables: Parameters, *, create_graph: bool) -> Parameters:
    """The gradients of the loss at φ with respect to φ itself or to what it was computed from, by name."""
    value = loss(phi)
    found: Sequence[Tensor | None] = [None] * len(variables)
    if value.requires_grad:
        found = torch.autograd.grad(value, list(variables.values()), create_graph=create_graph, allow_unused=True)
    gradients = dict(zip(variables, found, strict=True))
    cut = [name for name, gradient in gradients.items() if gradient is None and loss.depends_on(name, phi)]
    if cut:
        raise UnusedParameterError(f"autograd does not reach {', '.join(cut)}, on which the loss depends")
    return {name: torch.zeros_like(phi[name]) if g is None else g for name, g in gradients.items()}
