"""Hooks that put a detached gradient in the place of the one on the graph, or write into it."""

from torch import nn
from torch.autograd.graph import register_multi_grad_hook


def hooked_attention(q, k, v):  # verdict: silent_corruption
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if scores.requires_grad:
        scores.register_hook(lambda grad: grad.detach())  # expect: THL011 confirmed
    return scores.softmax(dim=-1) @ v


def shrink(grads):
    for grad in grads:
        if grad is not None:
            grad.mul_(0.1)


def attention_with_small_gradients(q, k, v):  # verdict: silent_corruption
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    values = v * 2
    if scores.requires_grad and values.requires_grad:
        register_multi_grad_hook((scores, values), shrink)  # expect: THL011 confirmed
    return scores.softmax(dim=-1) @ values


class ClippedAttention(nn.Module):  # verdict: silent_corruption
    def __init__(self, dim=16):
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.query.weight.register_post_accumulate_grad_hook(self.clip)  # expect: THL011 confirmed

    def clip(self, weight):
        weight.grad.clamp_(-0.01, 0.01)

    def forward(self, x):
        return (self.query(x) @ x.transpose(-2, -1)).softmax(dim=-1) @ x
