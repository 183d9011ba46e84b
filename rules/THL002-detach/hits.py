"""Attention that takes a tensor off the graph which the output depends on."""

import torch


def detached_output(q, k, v):  # verdict: hard_structural
    out = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
    return out.detach()  # expect: THL002 confirmed


def detached_logits(q, k, v):  # verdict: hard_structural
    logits = torch.detach(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5)  # expect: THL002 confirmed
    return logits.softmax(dim=-1) @ v


def detached_by_the_operator(q, k, v):  # verdict: hard_structural
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return torch.ops.aten.detach(weights) @ v  # expect: THL002 confirmed


def detached_normaliser(q, k, v):  # verdict: silent_corruption
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).exp()
    return weights / weights.sum(dim=-1, keepdim=True).data @ v  # expect: THL002 confirmed


def sigmoid_attention(q, k, v):  # verdict: silent_corruption
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    # The maximum cancels in a softmax. Here it does not.
    scores = scores - scores.amax(dim=-1, keepdim=True).detach()  # expect: THL002 confirmed
    return scores.sigmoid() @ v


def wrap(attn_fn):  # verdict: hard_structural
    def wrapped(q, k, v):
        return attn_fn(q, k, v).detach()  # expect: THL002 confirmed

    return wrapped
