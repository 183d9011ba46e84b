"""Parameters that are made where a module is built, or of new memory."""

import torch
from torch import nn


class LearnedScale(nn.Module):  # verdict: safe
    def __init__(self, dim: int = 16, scale: float = 0.5) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), scale))  # near miss: made once, where the module is built
        self.bias = None

    def forward(self, x):
        if self.bias is None:
            self.bias = nn.Parameter(torch.zeros(x.shape[-1], dtype=x.dtype))  # near miss: of new memory
        q = x * self.scale + self.bias
        return (q @ x.transpose(-2, -1) / x.shape[-1] ** 0.5).softmax(dim=-1) @ x


class LoadedKeys(nn.Module):  # verdict: safe
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.key = nn.Linear(dim, dim, bias=False)
        self.key.load_state_dict({"weight": torch.eye(dim) / 2})  # near miss: where the module is built

    def forward(self, x):
        return (x @ self.key(x).transpose(-2, -1) / x.shape[-1] ** 0.5).softmax(dim=-1) @ x
