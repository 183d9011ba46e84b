"""Hooks that return nothing, or something differentiable."""

from torch import nn
from torch.autograd.graph import register_multi_grad_hook

norms = []


def watched_attention(q, k, v):  # verdict: safe
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if scores.requires_grad:
        scores.register_hook(lambda grad: norms.append(grad.norm()))  # near miss: it returns None
        scores.register_hook(lambda grad: grad.clone())  # near miss: it returns the same gradient
    return scores.softmax(dim=-1) @ v


def look(grads):
    for grad in grads:
        double = 0 if grad is None else grad.clone()
        double *= 2
        norms.append(double)


def attention_with_norms(q, k, v):  # verdict: safe
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    values = v * 2
    if scores.requires_grad and values.requires_grad:
        register_multi_grad_hook((scores, values), look)  # near miss: it changes a copy
    return scores.softmax(dim=-1) @ values


class WatchedAttention(nn.Module):  # verdict: safe
    def __init__(self, dim=16):
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.query.weight.register_post_accumulate_grad_hook(self.keep_norm)  # near miss: it reads

    def keep_norm(self, weight):
        self.norm = weight.grad.norm() * 2

    def forward(self, x):
        return (self.query(x) @ x.transpose(-2, -1)).softmax(dim=-1) @ x
