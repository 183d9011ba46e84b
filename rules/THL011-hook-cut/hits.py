"""Hooks that put a detached gradient in the place of the one on the graph."""


def hooked_attention(q, k, v):  # verdict: silent_corruption
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if scores.requires_grad:
        scores.register_hook(lambda grad: grad.detach())  # expect: THL011 confirmed
    return scores.softmax(dim=-1) @ v
