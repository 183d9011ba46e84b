"""Compiled code that is no attention, and attention that is not compiled."""

import re

import torch

pattern = re.compile("attention")  # near miss: a regular expression


@torch.compile  # near miss: no attention
def gelu(x):
    return x * torch.sigmoid(1.702 * x)


def plain_attention(q, k, v):  # verdict: safe
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
