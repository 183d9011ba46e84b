"""Things of the same name, uses that no gradient flows through, and code that is no attention."""

import torch
import torch.utils.data
from torch import nn


class Record:
    data = 0.5

    def detach(self):
        return self


def tempered_attention(q, k, v, config=Record()):  # verdict: safe
    temperature = config.data  # near miss: the attribute of a configuration
    rows = q.detach().shape[-2]  # near miss: only the shape is used
    causal = torch.ones(rows, k.data.shape[-2], dtype=torch.bool).tril()  # near miss: only the shape is used
    scores = q @ k.transpose(-2, -1) * temperature
    return scores.masked_fill(~causal, float("-inf")).softmax(dim=-1) @ v


def sized_attention(q, k, v):  # verdict: safe
    scale = k.data.size(-1) ** -0.5  # near miss: only the size is used
    return (q @ k.transpose(-2, -1) * scale).softmax(dim=-1) @ v


def train_step(model: nn.Module, loader: torch.utils.data.DataLoader) -> list:  # near miss: a module called data
    losses = []
    for batch in loader:
        loss = model(batch).mean()
        loss.backward()
        losses.append(loss.detach())  # near miss: a training loop is no attention
    for parameter in model.parameters():
        parameter.data.sub_(parameter.grad.data)  # near miss: an optimiser step is no attention
    return losses
