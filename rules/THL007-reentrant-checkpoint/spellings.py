"""Checkpoints whose way is settled elsewhere: in a partial, in a dictionary."""

import functools

from torch.utils.checkpoint import checkpoint


def core(q, k, v):  # verdict: safe
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


def settled_by_a_partial(q, k, v):  # verdict: first_order_only
    kept = functools.partial(checkpoint, use_reentrant=True)  # expect: THL007 confirmed
    return kept(core, q, k, v)


def settled_by_a_dictionary(q, k, v):  # verdict: first_order_only
    return checkpoint(core, q, k, v, **{"use_reentrant": True})  # expect: THL007 confirmed


def settled_well(q, k, v):  # verdict: safe
    kept = functools.partial(checkpoint, use_reentrant=False)  # near miss: it is not reentrant
    out = kept(core, q, k, v)  # near miss: the partial says so
    return checkpoint(unchanged, out, **{"use_reentrant": False})  # near miss: it is not reentrant


def unchanged(x):
    return x
