"""Time and peak memory of forward + backward + double backward: triton against custom, reference and plain eager.

    python -m benchmarks.attention_speed --device cuda --dtype bfloat16 --lengths 512,2048,8192

Beside them forward + backward alone, of each and of PyTorch's ``scaled_dot_product_attention``, which has no double
backward on its fused paths. Peak memory is what is allocated beyond inputs and cotangents.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from theria.attention import attention, backend_names

Run = Callable[[Tensor, Tensor, Tensor], Tensor]
Step = Callable[[], None]

#: Seconds that the timed repetitions of one measurement may take together.
BUDGET = 1.0


def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Plain attention in the dtype of its inputs."""
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1) @ v


@dataclass(frozen=True)
class TimedProblem:
    """Inputs, W that weights the output, and the cotangents of the gradients; all of one shape (B, H, T, D)."""

    inputs: tuple[Tensor, Tensor, Tensor]
    w: Tensor
    cotangents: tuple[Tensor, ...]

    def first(self, run: Run) -> None:
        """Forward and backward."""
        torch.autograd.grad(run(*self.inputs), self.inputs, self.w)

    def second(self, run: Run) -> None:
        """Forward, backward and double backward."""
        gradients = torch.autograd.grad(run(*self.inputs), self.inputs, self.w, create_graph=True)
        torch.autograd.grad(gradients, (*self.inputs, self.w), self.cotangents)


def draw(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> TimedProblem:
    """A problem with normally distributed entries."""
    q, k, v, w, *cotangents = (torch.randn(shape, device=device, dtype=dtype) for _ in range(7))
    q, k, v, w = (x.requires_grad_() for x in (q, k, v, w))
    return TimedProblem((q, k, v), w, tuple(cotangents))


def measure(step: Step, device: str) -> tuple[float, float]:
    """Median milliseconds within the budget, and peak MiB above what was allocated before (NaN without a GPU)."""
    cuda = device.startswith("cuda")
    step()  # compiles
    timed(step, cuda)
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else 0
    times = [timed(step, cuda)]
    while sum(times) < BUDGET and len(times) < 20:
        times.append(timed(step, cuda))
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if cuda else float("nan")
    return 1e3 * statistics.median(times), peak


def timed(step: Step, cuda: bool) -> float:
    """Seconds of one step, the device idle before and after."""
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def cells(step: Step, device: str) -> str:
    """Milliseconds and MiB as two columns, or why there are none."""
    try:
        milliseconds, peak = measure(step, device)
    except torch.OutOfMemoryError:
        return f"{'out of':>10} {'memory':>9}"
    finally:
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
    return f"{milliseconds:10.2f} {peak:9.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16", help="float32, float16 or bfloat16; several with commas")
    parser.add_argument("--lengths", default="512,2048,8192")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--batch", type=int, default=2)
    options = parser.parse_args()
    started = time.perf_counter()
    runs: dict[str, Run] = {"eager": eager}
    runs |= {name: partial(attention, backend=name) for name in backend_names()}
    where = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    print(f"{where}, torch {torch.__version__}, B={options.batch} H={options.heads} D={options.width}")
    print(f"{'':26} {'1st order':>10} {'':9} {'1st + 2nd':>10}")
    print(f"{'dtype':8} {'length':>6} {'backend':10} {'ms':>10} {'peak MiB':>9} {'ms':>10} {'peak MiB':>9}")
    for name in options.dtype.split(","):
        for length in map(int, options.lengths.split(",")):
            shape = (options.batch, options.heads, length, options.width)
            problem = draw(shape, getattr(torch, name), options.device)
            prefix = f"{name:8} {length:6}"
            sdpa = cells(partial(problem.first, torch.nn.functional.scaled_dot_product_attention), options.device)
            print(f"{prefix} {'sdpa':10} {sdpa} {'none':>10}", flush=True)
            for backend, run in runs.items():
                first, second = (cells(partial(step, run), options.device) for step in (problem.first, problem.second))
                print(f"{prefix} {backend:10} {first} {second}", flush=True)
    print(f"{time.perf_counter() - started:.0f} s in all, compilation included")


if __name__ == "__main__":
    main()
