"""Synthetic sequence classification: a task's class signal sits at positions that the learner is not told."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from theria.probes.point import draw


@dataclass(frozen=True, slots=True)
class TaskShape:
    """The sizes of a task.

    ``examples`` sequences stand in the support set and as many in the query set, their labels as balanced as the
    numbers allow; ``signal_positions`` of the ``length`` positions carry the class's prototype, the others noise alone.
    """

    examples: int = 6
    length: int = 8
    features: int = 6
    classes: int = 3
    signal_positions: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.signal_positions <= self.length:
            raise ValueError(f"signal_positions is {self.signal_positions}: give 1 to length ({self.length})")
        if min(self.examples, self.features) < 1 or self.classes < 2:
            raise ValueError("a task needs at least one example, one feature and two classes")


@dataclass(frozen=True, slots=True)
class Task:
    """One task: x of shape (examples, length, features), y (examples,) int64, for support and query."""

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Task:
        """The same task elsewhere or in another precision; labels stay int64."""
        return replace(
            self,
            support_x=self.support_x.to(device, dtype),
            support_y=self.support_y.to(device),
            query_x=self.query_x.to(device, dtype),
            query_y=self.query_y.to(device),
        )


def sample_task(shape: TaskShape, generator: torch.Generator, *, noise: float = 1.0) -> Task:
    """Draw a task in float64 on the CPU: the same numbers, whatever they are measured in later.

    Args:
        shape: the task's sizes.
        generator: a CPU generator; no other source of randomness is used.
        noise: the standard deviation of every feature at every position; prototypes have norm 2.
    """
    directions = draw((shape.classes, shape.features), generator)
    prototypes = 2 * directions / directions.norm(dim=1, keepdim=True)
    positions = torch.randperm(shape.length, generator=generator, device="cpu")[: shape.signal_positions]

    def split() -> tuple[Tensor, Tensor]:
        labels = torch.arange(shape.examples, device="cpu") % shape.classes
        labels = labels[torch.randperm(shape.examples, generator=generator, device="cpu")]
        x = noise * draw((shape.examples, shape.length, shape.features), generator)
        x[:, positions] += prototypes[labels][:, None]
        return x, labels

    return Task(*split(), *split())
