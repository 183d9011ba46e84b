"""Autotuners take the first configuration that runs, and run nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from theria_lint.worker.shims.shim_log import ShimLog
from theria_lint.worker.triton_interpreter import launching

triton = pytest.importorskip("triton")
autotuner = pytest.importorskip("triton.runtime.autotuner")
interpreter = pytest.importorskip("triton.runtime.interpreter")


class Kernel:
    """Stands for a compiled kernel; ``runs`` notes its launches."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.runs: list[int] = []

    @staticmethod
    def fn(x: Any, block: int) -> None:
        """What Triton takes for the text of the kernel."""

    def run(self, x: Any, block: int, **options: Any) -> None:
        if block > self.largest:
            raise autotuner.OutOfResources(block, self.largest, "shared memory")
        self.runs.append(block)


def tuned(kernel: Any) -> Any:
    """An autotuner of a kernel that has three sizes of blocks to choose from, as the linter makes them."""

    class Tuner(autotuner.Autotuner):
        pass

    launching._take_first_configuration(Tuner, ShimLog())
    configs = [triton.Config({"block": block}) for block in (64, 32, 16)]
    return Tuner(kernel, ["x", "block"], configs, [], None, None)


@pytest.mark.parametrize(("largest", "runs"), [(64, [64, 64]), (32, [32, 32]), (16, [16, 16])])
def test_the_first_that_fits_is_tried_once_and_launched(largest: int, runs: list[int]) -> None:
    kernel = Kernel(largest)
    tuned(kernel).run(1)
    assert kernel.runs == runs


def test_where_none_fits_the_launch_says_so() -> None:
    with pytest.raises(autotuner.OutOfResources):
        tuned(Kernel(8)).run(1)


def test_an_interpreted_kernel_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    monkeypatch.setattr(interpreter.InterpretedFunction, "run", lambda self, x, block, **options: runs.append(block))
    tuned(interpreter.InterpretedFunction(Kernel.fn)).run(1)
    assert runs == [64]
