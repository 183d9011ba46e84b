"""Runs a kernel inside MAML and says what its second derivatives are worth there.

Four meta-gradients are taken at each outer step, on the same task and from the same parameters:

    g_FULL      the kernel, exact
    g_FO        the kernel, inner gradients held constant
    g_severed   FULL with the kernel's double backward severed (same forward, same VJP, VJP detached)
    g*          FULL with the reference backend in float64, the oracle

and the second-order path is attributed by differences:

    overall             g_FULL − g_FO           over all parameters
    through attention   g_FULL − g_severed      over the q, k and v projections
    through the head    g_severed − g_FO        over the classifier

A kernel without a double backward has g_FULL = g_severed: its projections still get second-order signal through the
classifier above them, and none of it counts as the attention's. The outer gradient of an unrolled loop differentiates
each VJP once, so a kernel needs a double backward here and never a third order.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from theria.attention.registry import attention as theria_attention
from theria.maml.classifier import ATTENTION_PARAMETERS, HEAD_PARAMETERS, Attention, AttentionClassifier
from theria.maml.loop import InnerLoop, Mode, Parameters, flatten, meta_gradient
from theria.maml.maml_report import MamlReport, MamlStep
from theria.maml.meta_gradient_errors import OnceDifferentiableError, UnusedParameterError
from theria.maml.no_double_backward import sever_double_backward
from theria.maml.oracle import finite_difference_error
from theria.maml.tasks import Task, TaskShape, sample_task
from theria.probes.point import isolated
from theria.verdicts import Status

REFERENCE = "reference (float64)"
DIFFERENCES = "finite differences of the post-adaptation loss"

OUTER_LR = 0.1
"""How far θ moves between outer steps, along the reference's meta-gradient and not along the kernel's: every kernel is
measured at the same points."""


def maml_probe(
    attention: Attention,
    *,
    steps: int = 2,
    inner_steps: int = 2,
    inner_lr: float = 0.4,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    seed: int = 0,
    shape: TaskShape | None = None,
    head_dim: int = 4,
) -> MamlReport:
    """Run a kernel inside MAML: ``steps`` outer steps, each a fresh task adapted to in ``inner_steps``.

    Args:
        attention: takes q, k, v of shape (B, 1, T, head_dim) and returns the same shape.
        steps: outer steps.
        inner_steps: gradient descent steps on the support loss, unrolled.
        inner_lr: their learning rate.
        dtype: what the kernel is given. The model around a half-precision kernel is float32.
        device: where the kernel runs.
        seed: of tasks and initial parameters.
        shape: the tasks' sizes; T is its ``length``, B its ``examples``.
        head_dim: D.

    Returns:
        A report. What the kernel raises is caught and becomes the status. A parameter on which the loss depends and
        that autograd does not reach is HARD_FAIL_UNUSED, the error node of ``@once_differentiable`` in the graph is
        HARD_FAIL_ONCE_DIFF, any other exception HARD_FAIL_OTHER. The caller's random state, default dtype and grad
        mode are left alone.

    Raises:
        ValueError: if ``steps`` or ``inner_steps`` is below 1.
    """
    if steps < 1 or inner_steps < 1:
        raise ValueError(f"steps={steps}, inner_steps={inner_steps}: a MAML probe needs at least 1 of each")
    status, error, oracle = Status.OK, None, ""
    done: tuple[MamlStep, ...] = ()
    try:
        with isolated(seed):
            bench = _Bench(
                attention, InnerLoop(inner_steps, inner_lr), shape or TaskShape(), head_dim, seed, dtype, device
            )
            done, oracle = bench.run(steps)
    except UnusedParameterError as failure:
        status, error = Status.HARD_FAIL_UNUSED, str(failure)
    except OnceDifferentiableError as failure:
        status, error = Status.HARD_FAIL_ONCE_DIFF, str(failure)
    except Exception as failure:
        status, error = Status.HARD_FAIL_OTHER, f"{type(failure).__name__}: {failure}"
    return MamlReport(
        status=status,
        steps=done,
        inner_steps=inner_steps,
        dtype=str(dtype).removeprefix("torch."),
        device=torch.device(device).type,
        oracle=oracle,
        error=error,
    )


def _reference_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return theria_attention(q, k, v, backend="reference")


class _Bench:
    """The kernel, its severed twin and the reference, in the same model from the same parameters."""

    def __init__(
        self,
        attention: Attention,
        loop: InnerLoop,
        shape: TaskShape,
        head_dim: int,
        seed: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.loop = loop
        self.shape = shape
        self.seed = seed
        self.device = torch.device(device)
        self.dtype = torch.float64 if dtype is torch.float64 else torch.float32

        def model(fn: Attention, where: torch.device, own: torch.dtype, given: torch.dtype) -> AttentionClassifier:
            generator = torch.Generator().manual_seed(seed)
            return AttentionClassifier(fn, shape, head_dim, generator, dtype=own, device=where, attention_dtype=given)

        self.model = model(attention, self.device, self.dtype, dtype)
        self.severed = model(sever_double_backward(attention), self.device, self.dtype, dtype)
        self.reference = model(_reference_attention, torch.device("cpu"), torch.float64, torch.float64)

    def run(self, steps: int) -> tuple[tuple[MamlStep, ...], str]:
        """The outer steps, and what the meta-gradient was held against."""
        generator = torch.Generator().manual_seed(self.seed)
        theta: Parameters = {name: value.detach() for name, value in self.reference.named_parameters()}
        done: list[MamlStep] = []
        oracle = noise = None
        for _ in range(steps):
            task = sample_task(self.shape, generator)
            here = {name: value.to(self.device, self.dtype) for name, value in theta.items()}
            task_here = task.to(self.device, self.dtype)
            truth = meta_gradient(self.reference, theta, task, self.loop, Mode.FULL)
            if oracle is None or noise is None:
                oracle = self._choose_oracle(task)
                noise = self._noise(here, task_here)
            full = meta_gradient(self.model, here, task_here, self.loop, Mode.FULL)
            error = self._error(full, truth, here, task_here, oracle)
            done.append(self._step(full, here, task_here, error, noise))
            theta = {name: value - OUTER_LR * truth[name] for name, value in theta.items()}
        return tuple(done), oracle or ""

    def _step(self, full: Parameters, theta: Parameters, task: Task, error: float | None, noise: float) -> MamlStep:
        first_order = meta_gradient(self.model, theta, task, self.loop, Mode.FO)
        severed = meta_gradient(self.severed, theta, task, self.loop, Mode.FULL)
        scale = _norm(flatten(full))
        return MamlStep(
            rel_diff=_distance(full, first_order) / scale,
            meta_gradient_error=error,
            attention_shares={
                name: _distance(full, severed, [parameter]) / scale for name, parameter in ATTENTION_PARAMETERS.items()
            },
            head_share=_distance(severed, first_order, HEAD_PARAMETERS) / scale,
            noise=noise,
        )

    def _choose_oracle(self, task: Task) -> str:
        """The reference where the forward agrees with it, else finite differences where float64 carries them."""
        with torch.no_grad():
            mine = self.model.attend(task.support_x.to(self.device, self.dtype)).to("cpu", torch.float64)
            true = self.reference.attend(task.support_x)
        agreement = torch.finfo(self.model.attention_dtype).eps ** 0.5
        if _norm(mine - true) <= agreement * _norm(true):
            return REFERENCE
        return DIFFERENCES if self.model.attention_dtype is torch.float64 else ""

    def _error(self, full: Parameters, truth: Parameters, theta: Parameters, task: Task, oracle: str) -> float | None:
        if oracle == REFERENCE:
            return _distance(full, truth) / _norm(flatten(truth))
        if oracle == DIFFERENCES:
            generator = torch.Generator().manual_seed(self.seed + 1)
            return finite_difference_error(full, self.model, theta, task, self.loop, generator)
        return None

    def _noise(self, theta: Parameters, task: Task) -> float:
        """Below what share a difference between two meta-gradients is rounding.

        On a CPU the same operations give the same bits; a GPU's atomic additions do not, so there it is measured.
        """
        rounding = 64 * torch.finfo(self.dtype).eps
        if self.device.type == "cpu":
            return rounding
        once, again = (meta_gradient(self.severed, theta, task, self.loop, Mode.FULL) for _ in range(2))
        return max(rounding, 8 * _distance(once, again) / _norm(flatten(once)))


def _distance(a: Parameters, b: Parameters, names: Iterable[str] | None = None) -> float:
    return _norm(flatten(a, names) - flatten(b, names))


def _norm(vector: Tensor) -> float:
    return float(vector.norm())
