"""Answer as a CUDA GPU would, on the CPU, and log each answer that the code under test needed.

There are two kinds. What only raises without a GPU (``torch.cuda.current_device()``, a custom operator registered for
CUDA alone) is always answered. What chooses a path (``x.is_cuda``, ``torch.cuda.is_available()``, ``x.device.type``) is
answered truthfully and logged, until ``FakeGpu.enable`` turns the answers to those of a machine with a GPU.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from theria_lint.reasons import ReasonCode
from theria_lint.worker import importer
from theria_lint.worker.shims.shim_log import ShimLog
from theria_lint.worker.triton_interpreter import interpreter
from theria_lint.worker.triton_interpreter.interpreter import CAPABILITY, SHARED_MEMORY

_OURS = frozenset({"torch", "triton", "theria", "theria_lint", "importlib"})
_FACTORIES = (
    "empty zeros ones full tensor arange rand randn randint randperm eye linspace as_tensor scalar_tensor "
    "empty_like zeros_like ones_like full_like rand_like randn_like empty_strided tril_indices triu_indices"
)
_METHODS = "to new_empty new_zeros new_ones new_full new_tensor"


class _FakeCudaObject(contextlib.AbstractContextManager["_FakeCudaObject"]):
    """A device, stream, event or graph on which there is nothing to do."""

    cuda_stream = 0
    stream_id = 0
    idx = -1
    prev_idx = -1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what the real ones take."""

    def __exit__(self, *exception: object) -> None:
        """End nothing."""

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate nothing: ``torch.cuda.device`` may be used as a decorator."""
        return function

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: 0.0 if name == "elapsed_time" else None


def _make_device_properties(*args: Any) -> SimpleNamespace:
    return SimpleNamespace(
        name="stand-in GPU",
        major=CAPABILITY[0],
        minor=CAPABILITY[1],
        multi_processor_count=108,
        total_memory=80 << 30,
        warp_size=32,
        max_threads_per_multi_processor=2048,
        regs_per_multiprocessor=65536,
        shared_memory_per_block=49152,
        shared_memory_per_block_optin=SHARED_MEMORY,
        shared_memory_per_multiprocessor=SHARED_MEMORY,
        L2_cache_size=40 << 20,
        gcnArchName="",
    )


_ANSWERS: dict[str, Any] = {
    "current_device": 0,
    "set_device": lambda *a: None,
    "get_device_capability": lambda *a: CAPABILITY,
    "get_device_name": "stand-in GPU",
    "get_device_properties": _make_device_properties,
    "is_bf16_supported": True,
    "synchronize": lambda *a: None,
    "empty_cache": lambda *a: None,
    "current_stream": _FakeCudaObject,
    "default_stream": _FakeCudaObject,
    "stream": _FakeCudaObject,
    "max_memory_allocated": 0,
    "memory_allocated": 0,
    "get_arch_list": lambda *a: [f"sm_{CAPABILITY[0]}{CAPABILITY[1]}"],
}
"""What functions of ``torch.cuda`` answer: a value, or what makes one of their arguments."""

_OBJECTS = ("device", "device_of", "Stream", "Event", "CUDAGraph")


class FakeGpu:
    """What stands in for a GPU in a job's process, and the log of what it was asked.

    It replaces attributes of torch for the rest of the process, which imports and runs nothing but the job's code.
    """

    def __init__(self, log: ShimLog) -> None:
        self.log = log
        self.is_enabled = False

    def install_shims(self) -> None:
        """What a child does before it imports code that may want a GPU where there is none."""
        interpreter.complete_interpreter(self.log)
        self._install_answers()
        setattr(builtins, importer.DEVICE_TYPE, self._read_device_type)

    def enable(self) -> None:
        """From now on CPU tensors say that they are on a GPU, and whatever is asked of a GPU is done on the CPU."""
        if not self.is_enabled:
            self.is_enabled = True
            self._redirect_to_cpu()

    def _install_answers(self) -> None:
        """Give the answers that any GPU would give, and start to listen for questions that choose a path."""
        for name, value in _ANSWERS.items():
            setattr(torch.cuda, name, self._make_cuda_answer(name, value))
        for name in _OBJECTS:
            setattr(torch.cuda, name, _FakeCudaObject)
        torch.library.custom_op = self._wrap_custom_op(torch.library.custom_op)
        real = torch.Tensor.is_cuda.__get__  # type: ignore[attr-defined]
        is_cuda = property(lambda tensor: True if self._answers_as_gpu("is_cuda") else real(tensor))
        torch.Tensor.is_cuda = is_cuda  # type: ignore[assignment]
        available, count = torch.cuda.is_available, torch.cuda.device_count
        torch.cuda.is_available = lambda: self._answers_as_gpu("torch.cuda.is_available()") or available()
        torch.cuda.device_count = lambda: 1 if self._answers_as_gpu("torch.cuda.device_count()") else count()

    def _read_device_type(self, device: Any) -> Any:
        """Stand for ``device.type`` in the code under test, which is rewritten to call it."""
        kind = device.type
        if isinstance(device, torch.device) and kind == "cpu" and self._answers_as_gpu("device.type"):
            return "cuda"
        return kind

    def _answers_as_gpu(self, question: str) -> bool:
        """Record a question of the code under test, and say whether to answer as on a GPU."""
        module = sys._getframe(2).f_globals.get("__name__", "")
        if module.partition(".")[0] in _OURS:
            return False
        self.log.record_gpu_query(question, module)
        if self.is_enabled:
            self.log.record_shim(ReasonCode.ANSWERS_AS_GPU, query=question)
        return self.is_enabled

    def _make_cuda_answer(self, name: str, value: Any) -> Callable[..., Any]:
        """A function of ``torch.cuda`` that gives the stand-in's answer, to everyone but PyTorch."""
        real = getattr(torch.cuda, name, None)

        def function(*args: Any, **kwargs: Any) -> Any:
            package = sys._getframe(1).f_globals.get("__name__", "").partition(".")[0]
            if package == "torch" and real is not None:
                return real(*args, **kwargs)
            self.log.record_shim(ReasonCode.CUDA_ANSWERS)
            return value(*args, **kwargs) if callable(value) else value

        return function

    def _wrap_custom_op(self, custom_op: Callable[..., Any]) -> Callable[..., Any]:
        """``torch.library.custom_op`` that registers for the CPU too what is meant for CUDA alone."""

        @functools.wraps(custom_op)
        def decorate(*args: Any, **kwargs: Any) -> Any:
            kinds = kwargs.get("device_types")
            if kinds is not None and "cpu" not in kinds:
                self.log.record_shim(ReasonCode.OPERATOR_ON_CPU)
                kwargs["device_types"] = None
            return custom_op(*args, **kwargs)

        return decorate

    def _redirect_to_cpu(self) -> None:
        """Make tensors on the CPU where a GPU is named."""
        for name in _FACTORIES.split():
            setattr(torch, name, self._wrap_to_cpu(getattr(torch, name)))
        for name in _METHODS.split():
            setattr(torch.Tensor, name, self._wrap_to_cpu(getattr(torch.Tensor, name)))
        torch.nn.Module.to = self._wrap_to_cpu(torch.nn.Module.to)  # type: ignore[method-assign]
        torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor  # type: ignore[method-assign]
        torch.nn.Module.cuda = lambda module, *args, **kwargs: module  # type: ignore[method-assign]

    def _wrap_to_cpu(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(
                *map(self._replace_cuda_device, args),
                **{name: self._replace_cuda_device(value) for name, value in kwargs.items()},
            )

        return call

    def _replace_cuda_device(self, value: Any) -> Any:
        named = isinstance(value, str) and (value == "cuda" or value.startswith("cuda:"))
        if named or (isinstance(value, torch.device) and value.type == "cuda"):
            self.log.record_shim(ReasonCode.TENSORS_ON_CPU)
            return "cpu"
        return value
