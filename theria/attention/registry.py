"""The three backends by name, and the record of which one ran."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_executed: ContextVar[list[str] | None] = ContextVar("executed", default=None)


def backend_names() -> tuple[str, ...]:
    """The names that ``attention(backend=…)`` takes."""
    return ("reference", "custom", "triton")


@contextmanager
def executed_backends() -> Iterator[list[str]]:
    """Collects the names of the backends that execute in the block, as they report themselves."""
    names: list[str] = []
    token = _executed.set(names)
    try:
        yield names
    finally:
        _executed.reset(token)


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, backend: str = "reference", scale: float | None = None, is_causal: bool = False
) -> Tensor:
    """Placeholder until the backends land."""
    from theria.attention.reference import reference_attention

    names = _executed.get()
    if names is not None:
        names.append("reference")
    return reference_attention(q, k, v, scale=scale, is_causal=is_causal)
