"""Hooks that return nothing, or something differentiable."""

norms = []


def watched_attention(q, k, v):  # verdict: safe
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if scores.requires_grad:
        scores.register_hook(lambda grad: norms.append(grad.norm()))  # near miss: it returns None
        scores.register_hook(lambda grad: grad.clone())  # near miss: it returns the same gradient
    return scores.softmax(dim=-1) @ v
