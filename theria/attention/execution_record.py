"""The record of which backends executed: written by the code that runs, read by whoever must prove it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_executed: ContextVar[list[str] | None] = ContextVar("executed", default=None)


@contextmanager
def executed_backends() -> Iterator[list[str]]:
    """Collect the name of the backend of every forward pass computed in the block, as it reports itself."""
    names: list[str] = []
    token = _executed.set(names)
    try:
        yield names
    finally:
        _executed.reset(token)


def record(name: str) -> None:
    """Called by a backend where it computes a forward pass."""
    if torch.compiler.is_compiling():  # Dynamo knows no context variables, and what it compiled runs without this line
        return
    names = _executed.get()
    if names is not None:
        names.append(name)
