"""Time and peak memory of forward + backward + double backward: triton against custom, reference and plain eager.

python -m benchmarks.attention_speed --device cuda --dtype bfloat16 --lengths 512,2048,8192
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from theria.attention import attention, backend_names

Run = Callable[[Tensor, Tensor, Tensor], Tensor]


def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Plain attention in the dtype of its inputs."""
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1) @ v


def step(run: Run, inputs: Sequence[Tensor], cotangents: Sequence[Tensor]) -> None:
    """One forward, backward and double backward."""
    *qkv, w = inputs
    gradients = torch.autograd.grad(run(*qkv), qkv, w, create_graph=True)
    torch.autograd.grad(gradients, inputs, cotangents)


def measure(run: Run, inputs: Sequence[Tensor], *, repeats: int, warmups: int) -> tuple[float, float]:
    """Median milliseconds, and peak MiB above what was allocated before (NaN without a GPU)."""
    cuda = inputs[0].is_cuda
    cotangents = [torch.randn_like(x) for x in inputs[:3]]
    for _ in range(warmups):
        step(run, inputs, cotangents)
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else 0
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step(run, inputs, cotangents)
        if cuda:
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if cuda else float("nan")
    return statistics.median(times), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--lengths", default="512,2048,8192")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    runs: dict[str, Run] = {"eager": eager}
    for name in backend_names():
        runs[name] = lambda q, k, v, name=name: attention(q, k, v, backend=name)  # type: ignore[misc]
    print(f"{options.dtype} on {options.device}, B={options.batch} H={options.heads} D={options.width}")
    print(f"{'length':>7} {'backend':10} {'ms':>10} {'peak MiB':>10} {'eager ÷ it':>11}")
    for length in map(int, options.lengths.split(",")):
        shape = (options.batch, options.heads, length, options.width)
        dtype = getattr(torch, options.dtype)
        inputs = [torch.randn(shape, device=options.device, dtype=dtype, requires_grad=True) for _ in range(4)]
        baseline = float("nan")
        for name, run in runs.items():
            try:
                milliseconds, peak = measure(run, inputs, repeats=options.repeats, warmups=3)
            except torch.OutOfMemoryError:
                print(f"{length:7} {name:10} {'out of memory':>10}")
                continue
            baseline = milliseconds if name == "eager" else baseline
            print(f"{length:7} {name:10} {milliseconds:10.2f} {peak:10.0f} {baseline / milliseconds:11.2f}")


if __name__ == "__main__":
    main()
