"""A Triton function that is compiled for CUDA tensors and interpreted for CPU tensors, decided at each launch.

``triton.jit`` decides when it decorates, from an environment variable; this project may not touch that variable,
because the user's own kernels read it too.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import FunctionRewriter, GridExecutor
from triton.runtime.jit import JITFunction

#: The interpreter replaces functions of ``triton.language`` while it runs: one launch at a time.
_interpreter_lock = threading.RLock()

#: Lengths, head counts, windows, and a mask's strides but the last: its being 1 lets a row of it be read in one go.
_VARYING = [
    "T",
    "M",
    "H",
    "HK",
    "left",
    "right",
    *(f"{x}_{dim}" for x in ("mask", "e", "dmask", "gmask", "g", "slopes") for dim in "bht"),
]


class Kernel(JITFunction):  # type: ignore[misc]
    """Wraps a function written in ``triton.language``: a kernel to launch, or a helper that kernels call.

    Its arguments named in ``_VARYING``, if it has them, change from call to call: the compiler does not make a variant
    for each that 16 divides, and refuses them as constants.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__(fn, do_not_specialize=_VARYING)

    def run(self, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        """Launches: interpreted if the first argument, a tensor, is on the CPU, compiled otherwise."""
        first: Tensor = args[0]
        if not interprets(first):
            if first.device.index == torch.cuda.current_device():
                return super().run(*args, grid=grid, warmup=warmup, **kwargs)
            with torch.cuda.device(first.device):
                return super().run(*args, grid=grid, warmup=warmup, **kwargs)
        run: Any = GridExecutor(self._interpretable, self.arg_names, _indexable(grid))
        if "torch._dynamo" in sys.modules:  # it would compile the interpreter
            disable: Any = torch.compiler.disable
            run = disable(run.__call__)
        with _interpreter_lock:
            return run(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A helper called from an interpreted kernel; the compiler inlines helpers and never comes here."""
        return self._interpretable(*args, **kwargs)

    @cached_property
    def _interpretable(self) -> Callable[..., Any]:
        rewritten: Callable[..., Any] = FunctionRewriter(self.fn).rewrite_ast()
        return rewritten


def _indexable(grid: tuple[int, ...]) -> Callable[[Any], tuple[int, ...]]:
    """The grid as a function, which the interpreter calls when its replacements are in place and not yet in use.

    Triton 3.6 makes a loop bound an index by ``int`` of a one-element array, which NumPy refuses since 2.4.
    The interpreter puts ``__index__`` back with all the rest.
    """

    def with_index(_: Any) -> tuple[int, ...]:
        tl.tensor.__index__ = lambda x: int(x.handle.data.item())
        return grid

    return with_index


def interprets(x: Tensor) -> bool:
    """Whether kernels on this tensor run in the interpreter: on the CPU, and wherever TRITON_INTERPRET=1 was set."""
    return not x.is_cuda or not isinstance(tl.standard._sum_combine, JITFunction)
