"""Compile the kernels of our triton backend once, for every job: on a GPU that takes longer than all the rest.

The processes that compile run nothing but our own code.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from theria_lint.confirm.protocol import Outcome, TargetRequest
from theria_lint.model import TargetKind
from theria_lint.sandbox import linux
from theria_lint.sandbox.environment import make_folder_variables
from theria_lint.worker import clock
from theria_lint.worker.kernel_cache import pack_kernels, read_kernels

_SECONDS = 300.0
_PIECE = 1 << 16


def _attend(q: Any, k: Any, v: Any) -> Any:
    import torch

    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def _attend_causally(q: Any, k: Any, v: Any) -> Any:
    import torch

    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


PROBED = (_attend, _attend_causally)
"""What is probed, each in a process of its own: what these need, most targets do."""


class KernelCompiler:
    """A process that compiles kernels in a folder; ``pipe`` can be read as it goes, and ends when it does."""

    def __init__(self, folder: str) -> None:
        """Start it."""
        self.pipe, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.pipe)
            _exit_after(lambda: _compile_kernels(folder, writer))
        os.close(writer)
        self._packed = bytearray()

    def read_packed(self) -> str | None:
        """What it has compiled, packed; None while it goes on."""
        piece = os.read(self.pipe, _PIECE)
        self._packed += piece
        return None if piece else self._packed.decode()

    def end(self) -> None:
        """Close the pipe, and let the process go, which is ending."""
        os.close(self.pipe)
        os.waitpid(self.pid, 0)


def _compile_kernels(folder: str, pipe: int) -> None:
    from theria_lint.worker.triton_interpreter import launching

    os.mkdir(folder, 0o700)
    os.environ.update(make_folder_variables(folder))
    launching.raise_float32_precision()
    running = [os.fork() or _exit_after(partial(probe_fused, function)) for function in PROBED]
    for pid in running:
        os.waitpid(pid, 0)
    data = pack_kernels(read_kernels(os.environ["TRITON_CACHE_DIR"])).encode()
    while data:
        data = data[os.write(pipe, data) :]


def _exit_after(action: Callable[[], object]) -> NoReturn:
    try:
        linux.die_with_parent()
        action()
    finally:
        os._exit(0)


def probe_fused(function: Callable[..., Any], device: str = "cuda") -> Outcome:
    """What a target finds that is probed on the triton backend: it needs all of its kernels."""
    from theria_lint.worker.probe_target import run_target
    from theria_lint.worker.shims.fake_cuda import FakeGpu
    from theria_lint.worker.shims.shim_log import ShimLog

    clock.use_wall_clock()
    request = TargetRequest("attention", TargetKind.FUNCTION, {"backends": ["triton"]})
    limit = clock.ProbeClock(_SECONDS)
    return run_target(function, request, FakeGpu(ShimLog()), job=0, device=device, watched=(), clock=limit)
