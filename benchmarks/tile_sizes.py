"""Which tile sizes each kernel of the triton backend is fastest with, on the GPU at hand.

    python -m benchmarks.tile_sizes --dtype bfloat16 --width 64 --tasks jvp,double_backward
    python -m benchmarks.tile_sizes --causal --softcap 20 --alibi --rows 32,64 --stages 1,2

Prints for each task the best sizes: rows of the block that a program owns, of those that it goes over, warps, stages;
milliseconds; TFLOP/s of the products that the kernel makes. `theria/attention/triton/blocks.py` holds the best.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from typing import Any, get_args

import torch
from torch import Tensor
from triton.runtime.errors import OutOfResources

from benchmarks.second_order_attention import split_numbers
from theria.attention.canonical_problem import AttentionSettings
from theria.attention.engine_protocol import Cotangents, Directions, Saved
from theria.attention.triton import blocks
from theria.attention.triton.engine import TritonEngine
from theria.attention.triton.kernel import Kernel

#: Products of (T × D) and (D × M) that the kernel of a task makes.
PRODUCTS: dict[blocks.Task, int] = {
    "forward": 2, "vjp_query": 3, "vjp_key": 4, "statistics": 5, "jvp": 9, "double_backward": 8,
}  # fmt: skip
KERNELS = {
    "forward": "forward_kernel", "vjp_query": "vjp_query_kernel", "vjp_key": "vjp_key_kernel",
    "statistics": "row_statistics_kernel", "jvp": "jvp_kernel", "double_backward": "double_backward_kernel",
}  # fmt: skip


class TimedKernels:
    """Times one kernel among those that a pass launches, with sizes of our own for it."""

    def __init__(self, task: blocks.Task, sizes: blocks.Blocks) -> None:
        self.task, self.sizes, self.milliseconds = task, sizes, float("inf")
        self._choose, self._run = blocks.choose, Kernel.run

    def __enter__(self) -> TimedKernels:
        def choose(task: blocks.Task, *problem: Any, **options: Any) -> tuple[blocks.Blocks, ...]:
            return (self.sizes,) if task == self.task else self._choose(task, *problem, **options)

        def run(kernel: Kernel, *args: Any, **kwargs: Any) -> Any:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            result = self._run(kernel, *args, **kwargs)
            end.record()
            end.synchronize()
            if kernel.fn.__name__ == KERNELS[self.task]:
                self.milliseconds = min(self.milliseconds, start.elapsed_time(end))
            return result

        blocks.choose, Kernel.run = choose, run  # type: ignore[assignment,method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        blocks.choose, Kernel.run = self._choose, self._run  # type: ignore[method-assign]


def list_sizes(task: blocks.Task, rows: list[int], stages: list[int]) -> Iterator[blocks.Blocks]:
    """Everything worth trying."""
    for own, other, warps, depth in itertools.product(rows, rows, (4, 8), stages):
        queries, keys = (other, own) if task in blocks.BY_KEY else (own, other)
        yield blocks.Blocks(queries, keys, warps, depth)


def run_task(task: blocks.Task, tensors: list[Tensor], settings: AttentionSettings) -> None:
    """The pass that launches the kernel of a task, by our own kernels alone: a mask keeps PyTorch's away."""
    engine, (q, k, v, dout, a, b, c) = TritonEngine(), tensors
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=q.device)
    out, lse = engine.forward(q, k, v, mask, settings)
    saved = Saved(q, k, v, mask, out, lse)
    if task in ("vjp_query", "vjp_key"):
        engine.vjp(saved, Cotangents(dout), settings, mask_gradient=False)
    elif task != "forward":
        saved = Saved(q, k, v, None, out, lse)
        engine.double_backward(saved, Cotangents(dout), Directions(a, b, c, None), settings, mask_gradient=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--softcap", type=float, help="a cap of the scores")
    parser.add_argument("--alibi", action="store_true", help="slopes, in the kernels")
    parser.add_argument("--rows", type=split_numbers, default=[32, 64, 128], help="of a block, with commas")
    parser.add_argument("--stages", type=split_numbers, default=[1, 2, 3], help="with commas")
    parser.add_argument("--tasks", default=",".join(PRODUCTS), help="with commas")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("a CUDA GPU is needed, and PyTorch sees none")
    unknown = set(options.tasks.split(",")) - set(get_args(blocks.Task))
    if unknown:
        parser.error(f"--tasks {', '.join(sorted(unknown))}: the tasks are {', '.join(PRODUCTS)}")
    shape = (2, 8, options.length, options.width)
    tensors = [torch.randn(shape, device="cuda", dtype=getattr(torch, options.dtype)) for _ in range(7)]
    slopes = torch.logspace(-1, -8, 8, 2.0, device="cuda")[None] if options.alibi else None
    settings = AttentionSettings(options.width**-0.5, options.causal, softcap=options.softcap, slopes=slopes)
    for task in options.tasks.split(","):
        flops = PRODUCTS[task] * 2 * 16 * options.length**2 * options.width * (0.5 if options.causal else 1)
        rows = []
        for sizes in list_sizes(task, options.rows, options.stages):
            with TimedKernels(task, sizes) as timed:
                try:
                    for _ in range(4):
                        run_task(task, tensors, settings)
                except OutOfResources:
                    continue
            rows.append((timed.milliseconds, sizes))
        for milliseconds, sizes in sorted(rows, key=lambda row: row[0])[:5]:
            print(f"{task:16} {milliseconds:8.3f} ms {flops / milliseconds / 1e9:6.0f} TFLOP/s  {sizes}", flush=True)


if __name__ == "__main__":
    main()
