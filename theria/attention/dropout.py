"""Dropout that can be computed again: which weights are kept is a function of a seed and of where a weight stands.

The numbers are those of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), with the
seed as key and (key, query, batch · heads + head, 0) as counter, so that every pass, in PyTorch or in a kernel, finds
the same ones without storing them.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from theria.attention.canonical_problem import AttentionSettings

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = 0xFFFFFFFF


def with_seed(settings: AttentionSettings, device: torch.device) -> AttentionSettings:
    """The settings with a seed drawn, where they drop weights, and p as a multiple of 2⁻²⁴, which every dtype has."""
    if not settings.dropout_p:
        return settings
    return replace(settings, dropout_p=round(settings.dropout_p * 2**24) / 2**24, seed=_draw_seed(device))


def _draw_seed(device: torch.device) -> Tensor:
    """Two words of 32 bits, (2,) int64, from the device's own generator: ``torch.manual_seed`` decides them.

    They stay on the device, so that nothing waits for them and a CUDA graph draws new ones whenever it is replayed.
    """
    compiling = torch.compiler.is_compiling()  # it follows no way around the transforms, and `registry` sends none here
    # a transform of torch.func would wrap them
    with nullcontext() if compiling else temporarily_clear_interpreter_stack():
        return torch.randint(0, _WORD + 1, (2,), dtype=torch.int64, device=device)


def kept_weights(shape: torch.Size, settings: AttentionSettings, dtype: torch.dtype) -> Tensor | float:
    """What the weights P (B, H, T, M) are multiplied by: 1 / (1 − p) where one is kept, 0 where it is dropped."""
    if settings.seed is None:
        return 1.0
    batch, heads, queries, keys = shape
    device = settings.seed.device
    counter = [
        torch.arange(keys, device=device),
        torch.arange(queries, device=device)[:, None],
        torch.arange(batch * heads, device=device).reshape(batch, heads, 1, 1),
        torch.zeros((), dtype=torch.int64, device=device),
    ]
    kept = (_philox(counter, settings.seed) >> 8) >= settings.dropout_p * 2**24
    return torch.where(kept, torch.ones((), dtype=dtype, device=device) / (1 - settings.dropout_p), 0.0)


def _philox(counter: list[Tensor], seed: Tensor) -> Tensor:
    """The first of the four words, each in an int64."""
    a, b, c, d = counter
    key, other_key = seed.unbind()
    for _ in range(_ROUNDS):
        # int64 wraps around where a product of two words is larger, which leaves both its halves as they are
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            ((right >> 32) & _WORD) ^ b ^ key,
            right & _WORD,
            ((left >> 32) & _WORD) ^ d ^ other_key,
            left & _WORD,
        )
        key, other_key = (key + _KEY_STEPS[0]) & _WORD, (other_key + _KEY_STEPS[1]) & _WORD
    return a
