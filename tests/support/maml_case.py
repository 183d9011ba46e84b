"""A tiny MAML case that every test of the loop shares."""

from __future__ import annotations

import torch

from theria.attention import attention
from theria.maml import AttentionClassifier, Task, TaskShape, sample_task

SHAPE = TaskShape(examples=3, length=4, features=3, classes=2, signal_positions=1)


def reference(q, k, v):
    return attention(q, k, v, backend="reference")


def case(fn=reference, seed=0) -> tuple[AttentionClassifier, dict[str, torch.Tensor], Task]:
    """A model, its parameters and a task, in float64."""
    generator = torch.Generator().manual_seed(seed)
    model = AttentionClassifier(fn, SHAPE, head_dim=2, generator=generator)
    theta = {name: value.detach() for name, value in model.named_parameters()}
    return model, theta, sample_task(SHAPE, generator)
