"""Kernels to lint, and the type of the fixture that lints them."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

UNSAFE = """\
import torch


def attention(q, k, v):
    p = torch.softmax(q @ k.transpose(-1, -2), -1)
    return (p @ v).detach()
"""
CLEAN = """\
import torch


def attention(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2), -1) @ v
"""

Lint = Callable[..., Result]
