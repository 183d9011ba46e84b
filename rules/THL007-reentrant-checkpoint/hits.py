"""Attention under the checkpoint that runs a backward of its own."""

from functools import partial

import torch.utils.checkpoint
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts


def core(q, k, v):  # verdict: safe
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


def checkpointed_attention(q, k, v):  # verdict: first_order_only
    return checkpoint(core, q, k, v, use_reentrant=True)  # expect: THL007 confirmed


def checkpointed_by_default(q, k, v):  # verdict: first_order_only
    return torch.utils.checkpoint.checkpoint(core, q, k, v)  # expect: THL007 confirmed


def keep_everything(*_args, **_kwargs):
    return CheckpointPolicy.MUST_SAVE


def selective_attention(q, k, v):  # verdict: first_order_only
    choose = partial(create_selective_checkpoint_contexts, keep_everything)
    return checkpoint(core, q, k, v, use_reentrant=False, context_fn=choose)  # expect: THL007 confirmed
