"""The checkpoint that records the forward as it is, and other things of that name."""

import torch
from torch.utils.checkpoint import checkpoint, noop_context_fn


def core(q, k, v):  # verdict: safe
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


def checkpointed_attention(q, k, v):  # verdict: safe
    return checkpoint(core, q, k, v, use_reentrant=False)  # near miss: it is not reentrant


def attention_of_the_default(q, k, v):  # verdict: safe
    return checkpoint(core, q, k, v, use_reentrant=False, context_fn=noop_context_fn)  # near miss: it chooses nothing


def mlp(x, layer):
    return checkpoint(layer, x, use_reentrant=True)  # near miss: no attention


def save(model, checkpoint):
    checkpoint(model.state_dict())  # near miss: a parameter of that name
