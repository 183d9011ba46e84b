"""Code beside attention that may switch recording off, and switches that do nothing."""

import torch
from torch import nn


class PlainAttention(nn.Module):  # verdict: safe
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.reset_parameters()

    @torch.no_grad()  # near miss: initialisation is not in the forward path
    def reset_parameters(self) -> None:
        self.query.weight.mul_(0.5)

    def forward(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        with torch.set_grad_enabled(True):  # near miss: recording is switched on
            scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        with torch.inference_mode(False):  # near miss: inference mode is left
            return scores.softmax(dim=-1) @ v


@torch.no_grad()  # near miss: an exponential moving average is no attention
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for old, new in zip(average.parameters(), model.parameters()):
        old.lerp_(new, 1 - decay)


def evaluate(model: nn.Module, batches) -> float:
    with torch.no_grad():  # near miss: an evaluation is no attention
        return sum(model(batch).mean() for batch in batches)


def sample(model: nn.Module, start):
    with torch.inference_mode():  # near miss: sampling is no attention
        return model(start).argmax(dim=-1)


def attention_in_the_mode_around_it(q, k, v):  # verdict: safe
    recording = torch.is_grad_enabled()
    with torch.set_grad_enabled(recording):  # near miss: the mode stays as it was
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
