"""Numbers that are sizes or logged, and constants."""

import math


def masked_attention(q, k, v, lengths=None):  # verdict: safe
    rows = int(q.shape[-2])
    if lengths is not None:
        rows = lengths.max().item()  # near miss: a length
    scale = float(q.shape[-1]) ** -0.5  # near miss: a size
    scores = q[..., :rows, :] @ k.transpose(-2, -1) * scale
    scores = scores.clamp(min=float("-inf"))  # near miss: a constant
    if not math.isfinite(scores.sum().item()):  # near miss: a check
        raise ValueError("the scores overflow")
    return scores.softmax(dim=-1) @ v
