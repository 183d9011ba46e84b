"""Sums without a detached term, and detached terms that cancel nothing."""


def residual_attention(q, k, v):  # verdict: safe
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    weights = weights + (weights.square() - weights)  # near miss: nothing is detached
    return weights @ v


def shifted_attention(q, k, v):  # verdict: safe
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    shifted = scores - scores.amax(dim=-1, keepdim=True).detach()  # expect: THL002 cleared
    return shifted.softmax(dim=-1) @ v
