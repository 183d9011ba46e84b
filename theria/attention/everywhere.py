"""A backend in place of ``F.scaled_dot_product_attention``, for all code that runs in a block."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from theria.attention.drop_in import ScaledDotProductAttention, sdpa

_BUILTIN = torch._C._nn.scaled_dot_product_attention
_replacement: ContextVar[ScaledDotProductAttention | None] = ContextVar("replacement", default=None)
_lock = threading.Lock()
_blocks = 0
_before: Any = _BUILTIN
"""What stood in PyTorch's module before the first block: another tool may have put something there."""


@contextmanager
def everywhere(backend: str = "auto") -> Iterator[None]:
    """Compute every ``F.scaled_dot_product_attention`` that this thread calls in the block by a backend of ours.

    By whatever name it is called, from ``nn.MultiheadAttention`` and inside ``torch.compile`` too (where code with
    ``nn.MultiheadAttention`` stays as it is); a backward that is started in the block, and what it computes again
    (checkpoints), included. Other threads see PyTorch's own.

    Raises:
        ValueError: an unknown backend.
    """
    # Dynamo asks for this list, made once, whether a mode may see a function: it must hold PyTorch's own.
    torch.overrides.get_overridable_functions()
    token = _replacement.set(None)
    try:
        with Redirection(sdpa(backend)), _patched_functional():
            yield
    finally:
        _replacement.reset(token)


class Redirection(TorchFunctionMode):
    """Sends the calls of one function elsewhere. PyTorch keeps modes by thread, and autograd's threads inherit them."""

    def __init__(self, replacement: ScaledDotProductAttention) -> None:
        super().__init__()
        self.replacement = replacement

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _BUILTIN:
            return self.replacement(*args, **kwargs)
        if not isinstance(func, FunctionType):
            return func(*args, **kwargs)
        # PyTorch takes the mode away while it is asked, so a function in Python would call its own attention in there:
        # `_call_replacement`, which stands under its name, is told what the innermost mode says.
        if torch.compiler.is_compiling():  # Dynamo traces the mode itself, and knows no context variables
            if func is functional.multi_head_attention_forward:
                # It would take this function for one operator, with PyTorch's own attention in it.
                torch._dynamo.skip_frame("nn.MultiheadAttention is not compiled inside everywhere()")
            return func(*args, **kwargs)
        if func is functional.multi_head_attention_forward and "torch._dynamo" in sys.modules:
            disable: Any = torch.compiler.disable
            func = disable(func)
        token = _replacement.set(_replacement.get() or self.replacement)
        try:
            return func(*args, **kwargs)
        finally:
            _replacement.reset(token)


def _call_replacement(*args: Any, **kwargs: Any) -> torch.Tensor:
    replacement = None if torch.compiler.is_compiling() else _replacement.get()
    called: Any = _before if replacement is None else replacement
    result: torch.Tensor = called(*args, **kwargs)
    return result


@contextmanager
def _patched_functional() -> Iterator[None]:
    """Keep ``_call_replacement`` under PyTorch's name while any block runs, in whichever thread."""
    global _before, _blocks
    with _lock:
        if not _blocks:
            _before = functional.scaled_dot_product_attention
            functional.scaled_dot_product_attention = _call_replacement
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                functional.scaled_dot_product_attention = _before
