"""The engines of the backends with analytic derivatives, by name."""

from __future__ import annotations

from functools import cache

from theria.attention.engine_protocol import Engine


@cache
def load_engine(name: str) -> Engine:
    """Import a backend when it is first used: triton is heavy and may be absent.

    Raises:
        ValueError: the package that the backend needs is missing.
    """
    if name == "custom":
        from theria.attention.custom import CustomEngine

        return CustomEngine()
    try:
        from theria.attention.triton.engine import TritonEngine
    except ModuleNotFoundError as error:
        raise ValueError("backend='triton' needs the package triton: install it, or pass backend='custom'") from error
    return TritonEngine()
