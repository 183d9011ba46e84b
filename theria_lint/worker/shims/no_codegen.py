"""Run ``torch.compile`` without code generation: a compiler is a process to start, and autograd's part needs none."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from theria_lint.reasons import ReasonCode
from theria_lint.worker.shims.shim_log import ShimLog

EAGER_BACKEND = "aot_eager"
"""The backend that traces forward and backward like the default one, with the same refusals, and runs them eagerly."""


@contextmanager
def run_uncompiled() -> Iterator[None]:
    """Run compiled and scripted code as it was written, so that it can be watched.

    The switch of a PyTorch before 2.6 is missing. It imports the compiler, which takes seconds: code that has not done
    so has compiled nothing.
    """
    stance = getattr(torch.compiler, "set_stance", None) if "torch._dynamo" in sys.modules else None
    kind: Any = torch.jit.ScriptFunction
    scripted = kind.__call__
    kind.__call__ = _make_call_as_written(scripted)
    try:
        with stance("force_eager") if stance else nullcontext():
            yield
    finally:
        kind.__call__ = scripted


def forget_compiled_code() -> None:
    """Drop what was compiled so far: after a call that failed the compiler would leave a frame alone for good."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


def _make_call_as_written(scripted: Callable[..., Any]) -> Callable[..., Any]:
    """A call of a scripted function that runs what it was made from, which PyTorch keeps for its compiler."""

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        written = getattr(function, "_torchdynamo_inline", None)
        return written(*args, **kwargs) if written is not None else scripted(function, *args, **kwargs)

    return call


def avoid_code_generation(log: ShimLog) -> None:
    """Make ``torch.compile`` use that backend wherever the code under test leaves the choice to PyTorch, and log it."""
    original = torch.compile

    @functools.wraps(original)
    def compile_(*args: Any, backend: str | Callable[..., Any] = "inductor", **kwargs: Any) -> Any:
        if backend != "inductor":
            return original(*args, backend=backend, **kwargs)
        kwargs.pop("mode", None)
        kwargs.pop("options", None)
        log.record_shim(ReasonCode.NO_CODEGEN, backend=EAGER_BACKEND)
        return original(*args, backend=EAGER_BACKEND, **kwargs)

    torch.compile = compile_
